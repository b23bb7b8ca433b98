"""Create the tables that are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import MetaData
from sqlalchemy.exc import OperationalError

from dbscope import arguments
from dbscope.arguments import Rule
from dbscope.backends import errors

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from dbscope.backends.base import Backend

METADATA = Rule(
    "a MetaData",
    lambda value: isinstance(value, MetaData),
    lambda value: "Give its `.metadata`." if hasattr(value, "metadata") else None,
)


def create_missing(connection: Connection, metadata: MetaData, backend: Backend) -> None:
    """Create them in one transaction, while no other process does the same.

    Args:
        connection: in no transaction.
        metadata: what should exist.
        backend: whose lock it is.

    Raises:
        DatabaseUnavailable: somebody else has the lock of the file for too long.
    """
    arguments.check("metadata", metadata, METADATA, TypeError)
    try:
        with connection.begin(), backend.schema_lock(connection):
            metadata.create_all(connection)
    except OperationalError as error:
        if error.orig is not None and errors.is_locked(error.orig):
            raise errors.locked("ensure_schema()", error.orig) from error
        raise
