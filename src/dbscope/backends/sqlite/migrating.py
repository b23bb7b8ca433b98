"""What SQLite needs when revisions are run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from dbscope.backends.migrating import Migrating, rounded, wait_for
from dbscope.backends.sqlite import batch
from dbscope.backends.sqlite.file_lock import FileLock
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
        file = FileLock(f"{files.path_of(engine.url)}-migrate")
        wait_for(file.take, lambda: f"whoever has {file.path} open", timeout)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            file.give_back()

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
