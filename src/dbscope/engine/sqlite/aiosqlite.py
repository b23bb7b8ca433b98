"""aiosqlite's connection, made to end for certain.

Its `close()` waits for a worker that may have gone, and leaves behind what a cancelled task
abandoned. As long as one cursor of it is alive, SQLite keeps the connection as a zombie, in its
transaction and with the write lock (https://sqlite.org/c3ref/close.html).
"""

from __future__ import annotations

import functools
import sqlite3
from typing import TYPE_CHECKING, Any, cast

import aiosqlite

from dbscope.engine import carry
from dbscope.engine.sqlite.lifetime import AGAIN
from dbscope.engine.sqlite.plain import Connection

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable


class AsyncConnection(aiosqlite.Connection):
    """A connection whose end interrupts, rolls back and closes, whoever still waits for what."""

    def stop(self) -> asyncio.Future[Any] | None:
        """Make the worker end the connection, and itself; once."""
        if not self._running:
            return None  # the worker takes nothing after the first call
        if isinstance(self._connection, Connection):
            cast("Any", self)._tx.put_nowait((None, self._connection.end))  # noqa: SLF001
            interrupt(self._connection)
        return cast("Any", super()).stop()  # type: ignore[no-any-return]

    async def commit(self) -> None:
        """Commit; without a transaction there is nothing to ask the worker for."""
        if self.in_transaction:
            await super().commit()

    def end_reading(self) -> Awaitable[None] | None:
        """End what is only half read; None: there is nothing to wait for."""
        if not isinstance(self._connection, Connection) or self._connection.is_read():
            return None
        ended: Any = cast("Any", self)._execute(self._connection.close_cursors)  # noqa: SLF001
        return cast("Awaitable[None]", ended)

    async def close(self) -> None:
        """End, and wait until the file is closed."""
        future = self.stop()
        if future is not None:
            await future


def interrupt(connection: Connection) -> None:
    """Interrupt a connection until its worker ends it: once is too early for what has not begun."""
    if connection.interrupt_before_end() and (loop := carry.running_loop()) is not None:
        loop.call_later(AGAIN, interrupt, connection)


def connect(database: str, **kwargs: Any) -> AsyncConnection:
    """Return a connection to await, in the way of `aiosqlite.connect`."""
    connector = functools.partial(sqlite3.connect, database, **{"factory": Connection, **kwargs})
    connection = AsyncConnection(connector, iter_chunk_size=64)
    # As SQLAlchemy does, so that it cannot keep the process alive.
    connection._thread.daemon = True  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return connection
