"""The test kit: `db.sandbox()` and what a test wants to say about SQL and transactions."""
