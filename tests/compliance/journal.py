"""A plugin for SQLAlchemy's tests: the names of our dialect, and the journal of each file."""

import os
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.dialects.sqlite import provision

import dbscope.sqlite_inline  # noqa: F401  (registers the dialect)

provision._drivernames.add("inline")  # it is a part of the names of the files


@event.listens_for(Engine, "connect")
def choose_journal(connection: Any, record: Any) -> None:
    """Write as the environment says; mocks are left alone."""
    if os.environ["JOURNAL"] == "wal" and hasattr(connection, "run_async"):
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.close()
