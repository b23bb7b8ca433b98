"""The table of the messages; in a metadata of its own, or in the application's."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from dbscope.once.columns import long_binary, moment, serial_number

NAME = "dbscope_outbox"

metadata = MetaData()
Time = moment()

TABLE = Table(
    NAME,
    metadata,
    Column("id", serial_number(), primary_key=True),
    Column("uid", String(32), nullable=False, comment="the same at each delivery"),
    Column("topic", String(255), nullable=False),
    Column("key", String(255), comment="messages of one key are relayed in their order"),
    Column("body", long_binary(), nullable=False),
    Column("content_type", String(100), nullable=False),
    Column("headers", JSON, nullable=False),
    Column("created_at", Time, nullable=False, comment="UTC"),
    Column("available_at", Time, nullable=False, comment="UTC; not tried before"),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),
    Column("dead_at", Time, comment="UTC; it failed too often"),
    Index("ix_dbscope_outbox_key", "key", "id"),
    Index("ix_dbscope_outbox_due", "dead_at", "available_at"),
)


def outbox_table(metadata: MetaData) -> Table:
    """Return the table in this metadata, so that the application's own migrations make it.

    Args:
        metadata: the application's.

    Example:
        >>> outbox_table(Base.metadata)
    """
    there = metadata.tables.get(NAME)
    return TABLE.to_metadata(metadata) if there is None else there
