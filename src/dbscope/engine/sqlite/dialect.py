"""`sqlite+inline`: an async dialect of SQLAlchemy's over the standard library's `sqlite3`.

create_async_engine("sqlite+inline:///app.db")
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import weakref
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects.sqlite.base import SQLiteExecutionContext
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import await_only
from sqlalchemy.util.queue import AsyncAdaptedQueue

from dbscope.engine import carry
from dbscope.engine.sqlite import files, plain, threads
from dbscope.engine.sqlite.connection import InlineConnection
from dbscope.engine.sqlite.queue import Queue, shared
from dbscope.engine.sqlite.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from sqlalchemy import URL

TIMEOUT = 5.0  # seconds, as in `sqlite3.connect`
KEPT = 15  # connections
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
            kwargs = {"factory": plain.Connection, **kwargs}
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
            await threads.to_the_end(partial(open_file, opened, database, kwargs))
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


class LoopQueue(AsyncAdaptedQueue[Any]):
    """The queue of a pool whose connections belong to no event loop."""

    _loop: asyncio.AbstractEventLoop | None = None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return a connection; asyncio's own queue waits in the loop in which it waited first."""
        loop = carry.running_loop()
        if self._loop is not loop:
            kept = self.__dict__.pop("_queue", None)
            self._loop = loop
            while kept is not None and not kept.empty():
                self.put_nowait(kept.get_nowait())
        return super().get(block, timeout)


class LoopPool(AsyncAdaptedQueuePool):
    """A pool for several event loops in turn.

    It keeps as many connections as SQLAlchemy's pools allow: to open one takes a thread, and longer
    than most requests.
    """

    _queue_class = LoopQueue

    def __init__(
        self,
        creator: Any,
        pool_size: int = KEPT,
        max_overflow: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(creator, pool_size, max_overflow, **options)


class InlineContext(SQLiteExecutionContext):
    """How a statement gets its cursor."""

    def create_server_side_cursor(self) -> Any:
        """Return a cursor for `stream()`."""
        return self.root_connection.connection.cursor(server_side=True)


class InlineDialect(SQLiteDialect_pysqlite):
    """SQLite on the event loop, and in a thread where it would take long."""

    driver = "inline"
    is_async = True
    has_terminate = True
    supports_statement_cache = True
    supports_server_side_cursors = True
    execution_ctx_cls = InlineContext

    @classmethod
    def import_dbapi(cls) -> Any:
        """Return the driver of one engine."""
        return Driver()

    @classmethod
    def get_pool_class(cls, url: URL) -> type[AsyncAdaptedQueuePool]:  # noqa: ARG003
        """Return the pool, for a database in memory too: its connections share it."""
        return LoopPool

    def get_driver_connection(self, connection: Any) -> sqlite3.Connection:
        """Return the connection of `sqlite3`."""
        driver: sqlite3.Connection = connection.driver_connection
        return driver

    def do_begin(self, dbapi_connection: Any) -> None:
        """Begin: BEGIN is sent with the first statement, when it is known whether that writes."""
        dbapi_connection.begin_later()

    def do_terminate(self, dbapi_connection: Any) -> None:
        """End a connection that nobody can use any more."""
        dbapi_connection.terminate()

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        """Choose whether statements are in a transaction."""
        dbapi_connection.set_autocommit(level == "AUTOCOMMIT")
        if level != "AUTOCOMMIT":
            super(SQLiteDialect_pysqlite, self).set_isolation_level(dbapi_connection, level)

    def detect_autocommit_setting(self, dbapi_conn: Any) -> bool:
        """Tell whether each statement is its own transaction."""
        return bool(dbapi_conn.autocommit)
