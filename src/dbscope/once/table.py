"""The table of what was done once; in a metadata of its own, or in the application's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Column, DateTime, Index, MetaData, String, Table

from dbscope.backends import registry
from dbscope.once.columns import long_binary

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from dbscope.backends.inserting import Inserting

NAME = "dbscope_once"
SHOWN = 255  # characters of a key that are kept for people to read

metadata = MetaData()

# By the digest, since a database may take "a", "A" and "a " for one, or refuse a key that is long.
TABLE = Table(
    NAME,
    metadata,
    Column("id", String(64), primary_key=True, comment="SHA-256 of the key"),
    Column("key", String(SHOWN), nullable=False),
    Column("fingerprint", String(64), comment="SHA-256 of the input"),
    Column("attempt", String(32), nullable=False, comment="who wrote this row"),
    Column("result", long_binary()),
    Column("created_at", DateTime, nullable=False, comment="UTC"),
    Column("expires_at", DateTime, nullable=False, comment="UTC"),
    Index("ix_dbscope_once_expires_at", "expires_at"),
)


def inserting(dialect: Dialect) -> Inserting:
    """Return how a database inserts a row unless it is there.

    Raises:
        ConfigurationError: of this database it is not known how.
    """
    return registry.inserting_of(dialect, TABLE, TABLE.c.attempt)


def once_table(metadata: MetaData) -> Table:
    """Return the table in this metadata, so that the application's own migrations make it.

    Args:
        metadata: the application's.

    Example:
        >>> once_table(Base.metadata)
    """
    there = metadata.tables.get(NAME)
    return TABLE.to_metadata(metadata) if there is None else there
