"""What SQLite needs when revisions are run."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from dbscope.backends.migrating import Migrating, rounded, wait_for
from dbscope.backends.sqlite import batch
from dbscope.backends.sqlite.foreign_keys import ForeignKeys
from dbscope.sqlite_inline import files

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine


class SQLiteMigrating(Migrating):
    """What is particular to it."""

    batch_mode = True
    transactional_ddl = True  # by our own BEGIN

    @contextmanager
    def lock(self, engine: Engine, timeout: float, *, alone: bool) -> Generator[Connection]:  # noqa: ARG002
        """Hold a file beside the database."""
        path = files.path_of(engine.url)
        with file_held(f"{path}-migrate", timeout), engine.connect() as connection:
            yield connection

    def begin(self, seconds: float) -> Sequence[str]:
        """Begin with the lock to write: else there is no transaction around DDL."""
        return (f"PRAGMA busy_timeout = {rounded(seconds * 1000)}", "BEGIN IMMEDIATE")

    def hidden_tables(self, connection: Connection) -> frozenset[str]:
        """Return virtual tables and their shadows."""
        return batch.virtual_tables(connection)

    def around(self, connection: Connection) -> AbstractContextManager[None]:
        """Keep triggers and views."""
        return batch.whole(connection)

    def foreign_keys(self, connection: Connection) -> ForeignKeys:
        """They stand in the way of changing a table."""
        return ForeignKeys(connection)


@contextmanager
def file_held(path: str, timeout: float) -> Generator[None, None, None]:
    """Hold a file by SQLite's own locks, which every system has; it stays, and stays empty.

    Deleting it would let a second process make another one while a third has this one open.
    """
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as file:

        def ask() -> bool:
            try:
                file.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                return False
            return True

        wait_for(ask, lambda: f"whoever has {path} open", timeout)
        yield
