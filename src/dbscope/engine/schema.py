"""Create the tables that are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import MetaData, text
from sqlalchemy.exc import OperationalError

from dbscope import arguments
from dbscope.arguments import Rule
from dbscope.backends import errors
from dbscope.backends.mysql import implicit_commit
from dbscope.backends.sqlite import recipe

if TYPE_CHECKING:
    from sqlalchemy import Connection

# Any number will do, as long as it is always the same: "dbscope" in ASCII.
LOCK = 0x6462_7363_6F70_65
MYSQL_NAME = (
    "CONCAT('dbscope schema ', SHA1(DATABASE()))"  # of the server, so it names the database
)
MYSQL_LOCK = text(f"SELECT GET_LOCK({MYSQL_NAME}, 60)")
MYSQL_UNLOCK = text(f"SELECT RELEASE_LOCK({MYSQL_NAME})")


METADATA = Rule(
    "a MetaData",
    lambda value: isinstance(value, MetaData),
    lambda value: "Give its `.metadata`." if hasattr(value, "metadata") else None,
)


def create_missing(connection: Connection, metadata: MetaData) -> None:
    """Create them in one transaction, while no other process does the same.

    Args:
        connection: in no transaction.
        metadata: what should exist.

    Raises:
        DatabaseUnavailable: somebody else has SQLite's lock for longer than the busy timeout.
    """
    arguments.check("metadata", metadata, METADATA, TypeError)
    try:
        _create_missing(connection, metadata)
    except OperationalError as error:
        if error.orig is not None and errors.is_locked(error.orig):
            raise errors.locked("ensure_schema()", error.orig) from error
        raise


def _create_missing(connection: Connection, metadata: MetaData) -> None:
    with connection.begin():
        if connection.dialect.name == "sqlite":
            recipe.begin(connection, immediate=True)
        elif connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        elif connection.dialect.name in implicit_commit.BACKENDS:
            connection.execute(MYSQL_LOCK)  # CREATE TABLE ends the transaction, and this not
        metadata.create_all(connection)
        if connection.dialect.name in implicit_commit.BACKENDS:
            connection.execute(MYSQL_UNLOCK)
