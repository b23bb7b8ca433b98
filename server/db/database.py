"""The database, and the base class of all models."""

from sqlalchemy.orm import DeclarativeBase

from dbscope import AsyncDatabase
from server.config import DATABASE_URL

db = AsyncDatabase(DATABASE_URL)


class Base(DeclarativeBase):
    """Knows all tables, by `Base.metadata`."""
