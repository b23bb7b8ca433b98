"""`sqlite3`'s connection, with a look at its cursors."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any, Self
from weakref import WeakSet


class Cursor(sqlite3.Cursor):
    """A cursor that knows whether it has rows which nobody has read."""

    is_read = True

    def execute(self, *args: Any) -> Self:
        """Run a statement."""
        super().execute(*args)
        self.is_read = self.description is None
        return self

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        row = super().fetchone()
        self.is_read = row is None
        return row

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return the next rows, at most so many."""
        wanted = self.arraysize if size is None else size
        rows = super().fetchmany(wanted)
        self.is_read = len(rows) < wanted
        return rows

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        self.is_read = True
        return super().fetchall()


class Connection(sqlite3.Connection):
    """A connection that knows its cursors: one that is half read keeps SQLite's snapshot."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()
        self._before_end = threading.Lock()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new cursor."""
        cursor = super().cursor(*args, **({"factory": Cursor} | kwargs))
        self._cursors.add(cursor)
        return cursor

    def is_read(self) -> bool:
        """Tell whether nobody has a cursor with more to read."""
        return all(getattr(cursor, "is_read", True) for cursor in list(self._cursors))

    def end_reading(self) -> None:
        """End what is only half read."""
        if not self.is_read():
            self.close_cursors()

    def close_cursors(self) -> None:
        """End whatever was read."""
        for cursor in list(self._cursors):
            cursor.close()

    def interrupt_before_end(self) -> bool:
        """Interrupt what runs in another thread; False: that is about to close the connection."""
        if not self._before_end.acquire(blocking=False):
            return False
        try:
            self.interrupt()
        finally:
            self._before_end.release()
        return True

    def end(self) -> None:
        """Close the cursors, roll back and close."""
        self._before_end.acquire()  # for good: from now on nothing is interrupted
        self.close_cursors()
        self.rollback()
        # An interrupt lasts until the next statement begins; without one, closing would leave out
        # the checkpoint, and with it the newest data of the file.
        self.execute("SELECT 1").close()
        self.close()
