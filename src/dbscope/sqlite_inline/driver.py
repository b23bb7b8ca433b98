"""The driver of one engine of `sqlite+inline`: it opens files."""

from __future__ import annotations

import os
import sqlite3
import weakref
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from dbscope.sqlite_inline import files, pysqlite, worker_threads
from dbscope.sqlite_inline.classify import Statements
from dbscope.sqlite_inline.connection import InlineConnection
from dbscope.sqlite_inline.queue import Queue, shared

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable


TIMEOUT = 5.0  # seconds, as in `sqlite3.connect`

MEMDB = (3, 36, 0)  # the first with databases in memory that several connections can have

numbers = count(1)  # of the drivers that there were


class Driver:
    """`sqlite3` as the dialect of one engine uses it."""

    paramstyle = "qmark"

    def __init__(self) -> None:
        self.statements = Statements()
        self._name = f"file:/dbscope-{next(numbers)}?vfs=memdb"
        self._memory: dict[str, sqlite3.Connection] = {}
        weakref.finalize(self, close_all, self._memory.values())

    def __getattr__(self, name: str) -> Any:
        """Give what else the module has: errors, versions, types."""
        return getattr(sqlite3, name)

    @property
    def exceptions_module(self) -> Any:
        """Where the errors are."""
        return sqlite3

    def connect(
        self,
        *args: Any,
        timeout: float = TIMEOUT,
        async_creator_fn: Callable[..., Awaitable[sqlite3.Connection]] | None = None,
        **kwargs: Any,
    ) -> InlineConnection:
        """Return a new connection, opened in a thread.

        Args:
            args: the database: a path, a URI or ``:memory:``.
            timeout: the longest time to wait for a lock, in seconds.
            async_creator_fn: makes a connection that any thread may use, instead of opening one.
            kwargs: as `sqlite3.connect` takes them; `isolation_level` and `check_same_thread` are
                the dialect's own.
        """
        database = args[0] if args and async_creator_fn is None else ""
        if async_creator_fn is not None:
            connection = await_only(async_creator_fn(*args, **kwargs))
            connection.isolation_level = None
        else:
            kwargs = {"factory": pysqlite.Connection, **kwargs}
            kwargs |= {"isolation_level": None, "check_same_thread": False}
            if files.is_in_memory(database):
                database = self._kept(database, kwargs)
            connection = await_only(self._open(database, kwargs))
        connection.execute("PRAGMA busy_timeout=0")  # nothing waits on the loop
        connection.execute("PRAGMA wal_autocheckpoint=0")  # there is a thread that does it
        name, in_memory = shared_name(connection, database)
        if in_memory:
            connection.create_function(files.ON_DISK, 1, files.on_disk)
        return InlineConnection(
            connection,
            statements=self.statements,
            writers=shared(Queue[Any], name or files.MEMORY, name),
            timeout=timeout,
            in_memory=in_memory,
        )

    async def _open(self, database: str, kwargs: Any) -> sqlite3.Connection:
        opened: list[sqlite3.Connection] = []
        try:
            await worker_threads.to_the_end(partial(open_file, opened, database, kwargs))
        except BaseException:
            close_all(opened)
            raise
        return opened[0]

    def _kept(self, database: str, kwargs: Any) -> str:
        """Return the name by which all connections of an engine share a database in memory.

        It ends with its last connection, so one is kept.
        """
        kwargs["uri"] = True  # so that a file can be attached as one
        if database == files.MEMORY and sqlite3.sqlite_version_info >= MEMDB:
            database = self._name
        if database not in self._memory:
            self._memory[database] = sqlite3.connect(database, **kwargs)
        return database


def open_file(opened: list[sqlite3.Connection], database: str, kwargs: Any) -> None:
    """Open a file, bring its log in order, and get to know its tables."""
    connection = sqlite3.connect(database, timeout=0, **kwargs)
    opened.append(connection)
    with suppress(sqlite3.OperationalError):  # it is locked; the first statement will wait
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()


def shared_name(connection: sqlite3.Connection, database: str) -> tuple[str | None, bool]:
    """Return the name by which others have the same database, if any, and whether it is in memory.

    SQLite gives some of those in memory a path.
    """
    if files.is_in_memory(database):
        return (None if database == files.MEMORY else database), True
    (_, _, path) = connection.execute("PRAGMA database_list").fetchall()[0]
    return (os.path.realpath(path) if path else None), not path


def close_all(connections: Iterable[sqlite3.Connection]) -> None:
    """Close connections."""
    for connection in connections:
        connection.close()
