"""What `sqlite3` and SQLAlchemy's adapters have besides statements, for `sqlite+inline`.

A dialect that takes the place of another has its attributes, with the same meaning.
"""

from __future__ import annotations

import sqlite3
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.util import await_only

from dbscope.aio import concurrency
from dbscope.sqlite_inline.pysqlite import is_in_transaction, own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dbscope.sqlite_inline.calls import Calls
    from dbscope.sqlite_inline.lifetime import Lifetime

T = TypeVar("T")

LEVELS = ("", "DEFERRED", "IMMEDIATE", "EXCLUSIVE")


class Attributes(AdaptedConnection):
    """What a connection has besides statements."""

    __slots__ = ("_level", "autocommit", "calls", "life", "pending")

    _connection: Any
    _level: str  # what BEGIN says when it is to write
    autocommit: bool
    calls: Calls
    life: Lifetime
    pending: bool  # a transaction was begun, of which SQLite does not know yet

    def __getattr__(self, name: str) -> Any:
        """Give what else `sqlite3` has, functions, collations, limits, when no statement runs."""
        if name in Attributes.__slots__:  # it is not there yet
            raise AttributeError(name)
        if concurrency.is_in_greenlet():
            self.calls.wait_for_others()
        return getattr(self._connection, name)

    def run_async(self, fn: Callable[[Any], Any]) -> Any:
        """Call with the driver's connection; what comes of it is awaited if it can be."""
        result = fn(self._connection)
        return await_only(result) if isawaitable(result) else result

    @property
    def in_transaction(self) -> bool:
        """Tell whether SQLite is in a transaction."""
        return is_in_transaction(self._connection)

    @property
    def total_changes(self) -> int:
        """Return how many rows were changed since it was opened."""
        changes: int = self._connection.total_changes
        return changes

    @property
    def isolation_level(self) -> str | None:
        """Return None if each statement is its own transaction; else what BEGIN says."""
        return None if self.autocommit else self._level

    @isolation_level.setter
    def isolation_level(self, level: str | None) -> None:
        """Choose as with `sqlite3`, which commits when it begins to be in autocommit.

        A transaction that begins by writing has the lock at once, so DEFERRED changes nothing.
        """
        if level is not None and level.upper() not in LEVELS:
            raise ValueError(f"isolation_level must be None or one of {LEVELS}, not {level!r}.")
        if level is None:
            self.commit()
        else:
            self._level = level.upper()
        self.set_autocommit(level is None)

    @property
    def row_factory(self) -> Any:
        """Return what rows are made with."""
        return self._connection.row_factory

    @row_factory.setter
    def row_factory(self, factory: Any) -> None:
        """Choose what rows are made with."""
        self._connection.row_factory = factory

    @property
    def text_factory(self) -> Any:
        """Return what texts are made with."""
        return self._connection.text_factory

    @text_factory.setter
    def text_factory(self, factory: Any) -> None:
        """Choose what texts are made with."""
        self._connection.text_factory = factory

    def interrupt(self) -> None:
        """Interrupt what runs in a thread."""
        self.life.interrupt(partial(sqlite3.Connection.interrupt, own(self._connection)))

    def set_progress_handler(self, handler: Callable[[], object] | None, n: int) -> None:
        """Call a handler every so many steps, besides our own look at the clock."""
        self.calls.watch(handler, n)

    # -- what reads or writes all of the database: in a thread -------------------------------------

    def backup(self, target: Any, **options: Any) -> None:
        """Copy the database into another connection."""
        self._in_thread("backup", getattr(target, "driver_connection", target), **options)

    def iterdump(self, **options: Any) -> Iterator[str]:
        """Return the statements that make the same database again."""
        statements = self._in_thread("iterdump", **options)
        made: list[str] = []
        self.calls.in_thread(partial(self.use, made.extend, statements))
        return iter(made)

    def serialize(self, **options: Any) -> bytes:
        """Return the database as it would be in a file."""
        content: bytes = self._in_thread("serialize", **options)
        return content

    def deserialize(self, data: bytes, **options: Any) -> None:
        """Have a database in memory, made of what `serialize` has returned."""
        self._in_thread("deserialize", data, **options)

    def _in_thread(self, name: str, *args: Any, **options: Any) -> Any:
        self.calls.wait_for_others()
        call = partial(getattr(self._connection, name), *args, **options)
        return self.calls.in_thread(partial(self.use, call))

    def use(self, call: Callable[..., T], *args: Any) -> T:
        """Call, while nobody else calls or closes.

        Raises:
            ProgrammingError: it is closed.
        """
        with self.life.in_use:
            if self.life.is_over:
                raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
            return call(*args)

    def commit(self) -> None:
        """Store what was written."""
        raise NotImplementedError

    def set_autocommit(self, autocommit: bool) -> None:
        """Choose whether each statement is its own transaction."""
        self.autocommit = autocommit
        self.pending = False
