"""Whatever database SQLAlchemy has a dialect for."""
