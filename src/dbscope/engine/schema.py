"""Create the tables that are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from dbscope.engine import sqlite

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData

# Any number will do, as long as it is always the same: "dbscope" in ASCII.
LOCK = 0x6462_7363_6F70_65


def create_missing(connection: Connection, metadata: MetaData) -> None:
    """Create them in one transaction, while no other process does the same.

    Args:
        connection: in no transaction.
        metadata: what should exist.
    """
    with connection.begin():
        if connection.dialect.name == "sqlite":
            sqlite.begin(connection, immediate=True)
        elif connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        metadata.create_all(connection)
