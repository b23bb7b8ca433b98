"""aiosqlite's connection, made to end for certain.

Its `close()` waits for a worker that may have gone, and leaves behind what a cancelled task
abandoned. As long as one cursor of it is alive, SQLite keeps the connection as a zombie, in its
transaction and with the write lock (https://sqlite.org/c3ref/close.html).
"""

from __future__ import annotations

import functools
import sqlite3
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

import aiosqlite

if TYPE_CHECKING:
    import asyncio


class Connection(sqlite3.Connection):
    """A connection that knows its cursors."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new cursor."""
        cursor = super().cursor(*args, **kwargs)
        self._cursors.add(cursor)
        return cursor

    def end(self) -> None:
        """Close the cursors, roll back and close; called in the worker."""
        for cursor in list(self._cursors):
            cursor.close()
        self.rollback()
        # An interrupt lasts until the next statement begins; without one, closing would leave out
        # the checkpoint, and with it the newest data of the file.
        self.execute("SELECT 1").close()
        self.close()


class AsyncConnection(aiosqlite.Connection):
    """A connection whose end interrupts, rolls back and closes, whoever still waits for what."""

    def stop(self) -> asyncio.Future[Any] | None:
        """Make the worker end the connection, and itself; once."""
        if not self._running:
            return None  # the worker takes nothing after the first call
        if isinstance(self._connection, Connection):
            self._connection.interrupt()
            cast("Any", self)._tx.put_nowait((None, self._connection.end))  # noqa: SLF001
        return cast("Any", super()).stop()  # type: ignore[no-any-return]

    async def close(self) -> None:
        """End, and wait until the file is closed."""
        future = self.stop()
        if future is not None:
            await future


def connect(database: str, **kwargs: Any) -> AsyncConnection:
    """Return a connection to await, in the way of `aiosqlite.connect`."""
    connector = functools.partial(sqlite3.connect, database, factory=Connection, **kwargs)
    connection = AsyncConnection(connector, iter_chunk_size=64)
    # As SQLAlchemy does, so that it cannot keep the process alive.
    connection._thread.daemon = True  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return connection
