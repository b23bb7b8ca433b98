"""aiosqlite's connection, made to end for certain.

Its `close()` waits for a worker that may have gone, and leaves behind what a cancelled task
abandoned. As long as one cursor of it is alive, SQLite keeps the connection as a zombie, in its
transaction and with the write lock (https://sqlite.org/c3ref/close.html).
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import aiosqlite

from dbscope.aio import threads
from dbscope.sqlite_inline.lifetime import AGAIN
from dbscope.sqlite_inline.pysqlite import Connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

core: Any = aiosqlite.core


class AsyncConnection(aiosqlite.Connection):
    """A connection whose end interrupts, rolls back and closes, whoever still waits for what."""

    def stop(self) -> asyncio.Future[Any] | None:
        """Make the worker end the connection, and itself; once."""
        if not self._running:
            return None  # the worker takes nothing after the first call
        self._running = False
        future = None if (loop := threads.running_loop()) is None else loop.create_future()
        self._ask(future, functools.partial(end, self))
        if isinstance(self._connection, Connection):
            interrupt(self._connection)
        self._ask(None, stop_worker)
        return future

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Let the worker call a function, and wait for what that returns."""
        if not (self._running and self._connection):
            raise ValueError("Connection closed")
        future = asyncio.get_running_loop().create_future()
        self._ask(future, functools.partial(fn, *args, **kwargs))
        return await future

    def _ask(self, future: asyncio.Future[Any] | None, function: Callable[[], Any]) -> None:
        """Put a function into the worker's queue.

        The worker would not survive an answer to a loop that is closed, and leave the rest undone.
        """
        work = function if future is None else functools.partial(answer, future, function)
        cast("Any", self)._tx.put_nowait((None, work))  # noqa: SLF001

    async def commit(self) -> None:
        """Commit; without a transaction there is nothing to ask the worker for."""
        if self.in_transaction:
            await super().commit()

    def end_reading(self) -> Awaitable[None] | None:
        """End what is only half read; None: there is nothing to wait for."""
        if not isinstance(self._connection, Connection) or self._connection.is_read():
            return None
        return self._execute(self._connection.close_cursors)

    async def close(self) -> None:
        """End, and wait until the file is closed."""
        future = self.stop()
        if future is not None:
            await future


def end(connection: aiosqlite.Connection) -> None:
    """Close the file, in the worker."""
    file: Any = connection._connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    connection._connection = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if file is not None:
        file.close()


def stop_worker() -> Any:
    """End the worker."""
    return core._STOP_RUNNING_SENTINEL  # noqa: SLF001


def abandon(connection: aiosqlite.Connection) -> None:
    """End a connection for whose end nobody waits, of whichever class it is.

    aiosqlite's own `stop` would have its worker fail if the event loop is closed meanwhile.
    """
    if isinstance(connection, AsyncConnection):
        connection.stop()
        return
    foreign: Any = connection
    foreign._running = False  # noqa: SLF001
    for function in (functools.partial(end, connection), stop_worker):
        foreign._tx.put_nowait((None, function))  # noqa: SLF001


def answer(future: asyncio.Future[Any], function: Callable[[], Any]) -> None:
    """Call a function in the worker, and tell what came of it to who waits."""
    try:
        result = function()
    except BaseException as error:
        tell(future, core.set_exception, error)
    else:
        tell(future, core.set_result, result)


def tell(future: asyncio.Future[Any], how: Callable[..., None], what: Any) -> None:
    """Tell it in the event loop, if that is still there."""
    with suppress(RuntimeError):  # it is closed
        future.get_loop().call_soon_threadsafe(how, future, what)


def interrupt(connection: Connection) -> None:
    """Interrupt a connection until its worker ends it: once is too early for what has not begun."""
    if connection.interrupt_before_end() and (loop := threads.running_loop()) is not None:
        loop.call_later(AGAIN, interrupt, connection)


def connect(database: str, **kwargs: Any) -> AsyncConnection:
    """Return a connection to await, in the way of `aiosqlite.connect`."""
    connector = functools.partial(sqlite3.connect, database, **{"factory": Connection, **kwargs})
    connection = AsyncConnection(connector, iter_chunk_size=64)
    # As SQLAlchemy does, so that it cannot keep the process alive.
    connection._thread.daemon = True  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return connection
