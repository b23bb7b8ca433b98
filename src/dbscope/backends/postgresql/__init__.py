"""PostgreSQL and its drivers."""
