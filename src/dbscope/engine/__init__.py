"""How the work reaches the database."""
