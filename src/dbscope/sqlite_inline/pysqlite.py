"""`sqlite3`'s connection, with one call at a time, and a look at its cursors."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

from dbscope.sqlite_inline import lifetime

# The calls that let another thread run meanwhile, which may be about to close the connection.
LONG_CALLS = ("commit", "rollback", "backup", "blobopen", "serialize", "deserialize", "__exit__")


class Cursor(sqlite3.Cursor):
    """A cursor that knows whether it has rows which nobody has read."""

    is_read = True

    if TYPE_CHECKING:

        @property
        def connection(self) -> Connection:
            """The connection that it is a cursor of."""
            ...

    def execute(self, *args: Any) -> Self:
        """Run a statement."""
        with self.connection.life.in_use:
            super().execute(*args)
        self.is_read = self.description is None
        return self

    def executemany(self, *args: Any) -> Self:
        """Run a statement for each set of parameters."""
        with self.connection.life.in_use:
            super().executemany(*args)
        return self

    def executescript(self, *args: Any) -> Self:
        """Run several statements."""
        with self.connection.life.in_use:
            super().executescript(*args)
        return self

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        with self.connection.life.in_use:
            row = super().fetchone()
        self.is_read = row is None
        return row

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return the next rows, at most so many."""
        wanted = self.arraysize if size is None else size
        with self.connection.life.in_use:
            rows = super().fetchmany(wanted)
        self.is_read = len(rows) < wanted
        return rows

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        self.is_read = True
        with self.connection.life.in_use:
            return super().fetchall()

    def __next__(self) -> Any:
        """Return the next row."""
        with self.connection.life.in_use:
            return super().__next__()

    def close(self) -> None:
        """End the statement."""
        with self.connection.life.in_use:
            super().close()


class Connection(sqlite3.Connection):
    """A connection that knows its cursors: one that is half read keeps SQLite's snapshot.

    Its end may come at any time, and from any thread.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()
        self.life = lifetime.Lifetime()
        lifetime.owners.add(self)

    def cursor(self, factory: Any = Cursor) -> Any:
        """Return a new cursor."""
        cursor = super().cursor(factory)
        self._cursors.add(cursor)
        return cursor

    def execute(self, *args: Any) -> Any:
        """Run a statement with a cursor of ours: `sqlite3` would take its own."""
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        """Run a statement for each set of parameters, likewise."""
        return self.cursor().executemany(*args)

    def executescript(self, *args: Any) -> Any:
        """Run several statements, likewise."""
        return self.cursor().executescript(*args)

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

    def interrupt(self) -> None:
        """Interrupt what runs in another thread."""
        self.interrupt_before_end()

    def interrupt_before_end(self) -> bool:
        """Interrupt what runs in another thread; False: it is being closed, or is closed."""
        return self.life.interrupt(super().interrupt)

    def close(self) -> None:
        """Interrupt what runs, and close: once, in whatever thread.

        Raises:
            ProgrammingError: the connection is of another thread only.
        """
        self.life.end(self._close, super().interrupt)

    end = close

    def _close(self) -> None:
        self.close_cursors()
        roll_back(self)
        super().close()


@cache
def on_top_of(factory: type[sqlite3.Connection] | None) -> type[Connection]:
    """Return our class of connections, on top of the one that the application has given."""
    if factory is None or issubclass(Connection, factory):
        return Connection
    if issubclass(factory, Connection):
        return factory
    return type(factory.__name__, (Connection, factory), {})


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo what is open, before the end.

    An interrupt lasts until the next statement begins; without one, closing would leave out the
    checkpoint, and with it the newest data of the file.
    """
    with suppress(sqlite3.Error):  # it may have been closed before
        connection.rollback()
        connection.execute("SELECT 1").close()


def is_in_transaction(connection: sqlite3.Connection) -> bool:
    """Tell whether a transaction is open; on a closed connection none is."""
    try:
        return connection.in_transaction
    except sqlite3.ProgrammingError:
        return False


def own(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return the connection of `sqlite3` itself, which a tool that looks on may have wrapped.

    They have `wrapt` for it, whose proxies say that they are what they wrap.
    """
    found: Any = connection
    while not issubclass(type(found), sqlite3.Connection) and hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    return found  # type: ignore[no-any-return]


def cursor_of(connection: sqlite3.Connection) -> sqlite3.Cursor:
    """Return a cursor of `sqlite3`'s own, with the row factory of the connection.

    Of one that is made by its class, `sqlite3` keeps a reference for as long as it is connected: it
    looks for those that are gone only in the method (`_pysqlite_drop_unused_cursor_references`).
    """
    if type(connection) is Connection or own(connection) is connection:
        return sqlite3.Connection.cursor(connection, sqlite3.Cursor)
    return connection.cursor(sqlite3.Cursor)  # for the tool to look on


def ask(connection: sqlite3.Connection, question: str, parameters: Any = ()) -> list[Any]:
    """Return what SQLite says to a question of ours, whatever rows and texts are to be made of."""
    made = connection.text_factory
    if made is not str:
        connection.text_factory = str
    cursor = cursor_of(own(connection))
    cursor.row_factory = None
    try:
        return cursor.execute(question, parameters).fetchall()
    finally:
        cursor.close()
        if made is not str:
            connection.text_factory = made


def one_at_a_time(name: str) -> Any:
    """Return a method of `sqlite3` that others wait for."""
    method = getattr(sqlite3.Connection, name)

    @wraps(method)
    def call(self: Connection, *args: Any, **kwargs: Any) -> Any:
        with self.life.in_use:
            return method(self, *args, **kwargs)

    return call


for _name in LONG_CALLS:
    if hasattr(sqlite3.Connection, _name):  # some are left out of some builds
        setattr(Connection, _name, one_at_a_time(_name))
