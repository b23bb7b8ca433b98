"""The cursors of `sqlite+inline`, as SQLAlchemy uses them."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from dbscope.sqlite_inline.answers import Answer, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")


class Running(Protocol):
    """A connection, as its cursors see it."""

    def run(
        self, sql: str, parameters: Any, *, many: bool = False, stream: sqlite3.Cursor | None = None
    ) -> Answer:
        """Run a statement."""
        ...

    def run_script(self, script: str) -> None:
        """Commit, and run several statements."""

    def fetch(self, call: Callable[..., T], *args: Any) -> T:
        """Go on with a statement whose rows are fetched as they are asked for."""
        ...

    def open_stream(self, cursor: StreamCursor) -> sqlite3.Cursor:
        """Return a cursor of the driver; it ends with the connection."""
        ...


class Fetching:
    """What both kinds of cursors do by fetching one row after another."""

    __slots__ = ()

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        """Go through the rows that are left."""
        while (row := self.fetchone()) is not None:
            yield row

    def setinputsizes(self, *sizes: Any) -> None:
        """Need no sizes."""

    def setoutputsize(self, *sizes: Any) -> None:
        """Need no sizes."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *failed: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Let the rows go."""
        raise NotImplementedError


class Cursor(Fetching):
    """A cursor that has all of its rows as soon as its statement was run."""

    server_side = False
    __slots__ = (
        "_connection",
        "_next",
        "_rows",
        "arraysize",
        "description",
        "lastrowid",
        "rowcount",
    )

    def __init__(self, connection: Running) -> None:
        self._connection = connection
        self._rows: Rows = []
        self._next = 0
        self.arraysize = 1
        self.description: Any = None
        self.lastrowid: int | None = None
        self.rowcount = -1

    def execute(self, operation: str, parameters: Any = ()) -> Cursor:
        """Run a statement."""
        return self._take(self._connection.run(operation, parameters or ()))

    def executemany(self, operation: str, seq_of_parameters: Sequence[Any]) -> Cursor:
        """Run a statement once for each set of parameters."""
        return self._take(self._connection.run(operation, seq_of_parameters, many=True))

    def executescript(self, script: str) -> Cursor:
        """Run several statements, after a COMMIT."""
        self._connection.run_script(script)
        return self._take(Answer([], None, -1, self.lastrowid))

    @property
    def connection(self) -> Running:
        """Return whose cursor it is."""
        return self._connection

    def _take(self, answer: Answer) -> Cursor:
        self._rows, self.description, self.rowcount, self.lastrowid = answer
        self._next = 0
        return self

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        if self._next == len(self._rows):
            return None
        self._next += 1
        return self._rows[self._next - 1]

    def fetchmany(self, size: int | None = None) -> Rows:
        """Return the next rows, at most so many."""
        start = self._next
        self._next = min(start + (size or self.arraysize), len(self._rows))
        return self._rows[start : self._next]

    def fetchall(self) -> Rows:
        """Return all rows that are left."""
        rows = self._rows[self._next :] if self._next else self._rows
        self._rows, self._next = [], 0
        return rows

    def close(self) -> None:
        """Let the rows go."""
        self._rows, self._next = [], 0

    async def _async_soft_close(self) -> None:
        """Have nothing to close: the rows are here."""


class StreamCursor(Fetching):
    """A cursor that fetches its rows in a thread, as they are asked for."""

    server_side = True
    __slots__ = ("__weakref__", "_connection", "_cursor", "arraysize")

    def __init__(self, connection: Running) -> None:
        self._connection = connection
        self._cursor: sqlite3.Cursor | None = connection.open_stream(self)
        self.arraysize = 1

    @property
    def description(self) -> Any:
        """What the columns are called."""
        return None if self._cursor is None else self._cursor.description

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""
        return -1 if self._cursor is None else self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        """The key of the row that was inserted last."""
        return None if self._cursor is None else self._cursor.lastrowid

    def execute(self, operation: str, parameters: Any = ()) -> StreamCursor:
        """Run a statement until it has its first row."""
        self._connection.run(operation, parameters or (), stream=self._open())
        return self

    def executemany(self, operation: str, seq_of_parameters: Sequence[Any]) -> StreamCursor:
        """Run a statement once for each set of parameters."""
        self._connection.run(operation, seq_of_parameters, many=True, stream=self._open())
        return self

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return self._connection.fetch(self._open().fetchone)

    def fetchmany(self, size: int | None = None) -> Rows:
        """Return the next rows, at most so many."""
        rows: Rows = self._connection.fetch(self._open().fetchmany, size or self.arraysize)
        return rows

    def fetchall(self) -> Rows:
        """Return all rows that are left."""
        rows: Rows = self._connection.fetch(self._open().fetchall)
        return rows

    def close(self) -> None:
        """End the statement."""
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            self._connection.fetch(cursor.close)

    def end(self) -> None:
        """End the statement, in the thread that ends the connection."""
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            cursor.close()

    def _open(self) -> sqlite3.Cursor:
        if self._cursor is None:
            raise sqlite3.ProgrammingError("Cannot operate on a closed cursor.")
        return self._cursor

    async def _async_soft_close(self) -> None:
        """Stay open: the rows are still to come."""
