"""SQLite by one exact recipe: our own BEGIN, a write queue, and a way to interrupt.

The driver is in autocommit, and BEGIN is sent when a transaction begins: else SELECT, SAVEPOINT
and DDL stay outside of it (https://github.com/python/cpython/issues/54133). What will write says so
at once by BEGIN IMMEDIATE, because a read lock that must become a write lock fails without waiting
(https://sqlite.org/rescode.html#busy_snapshot).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from inspect import isawaitable
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from sqlalchemy import URL, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import await_only

from dbscope.engine.pool import ThreadQueuePool
from dbscope.errors import DatabaseUnavailable, TransactionManagementError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from dbscope.unit.turn import Gate
    from dbscope.unit.unit import Unit

BUSY_TIMEOUT = 5.0  # seconds
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
)


class WriteQueue:
    """One writer at a time in this process; the others wait in the order of arrival.

    SQLite's own lock makes them poll and starve (measured: 17.65 s against 0.71 s for 16 writers).
    It is left to the competition with other processes.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.writer: Unit | None = None
        self._waiting: deque[tuple[Unit, Gate]] = deque()
        self._mutex = threading.Lock()

    def enter(self, unit: Unit, timeout: float) -> None:
        """Wait until this unit may write.

        Raises:
            TransactionManagementError: the writer is this very scope, or one around it.
            DatabaseUnavailable: the time was up; it says who is writing.
        """
        with self._mutex:
            if self.writer is None or self.writer is unit:
                self.writer = unit
                return
            if self.is_held_around(unit):
                self._refuse_deadlock(unit, self.writer)
            gate = unit.turn.world.gate()
            self._waiting.append((unit, gate))
        try:
            granted = gate.wait(timeout)
        except BaseException:
            self._withdraw(unit)
            raise
        if not granted and self._withdraw(unit):
            raise DatabaseUnavailable(
                f"{self.name} is locked: {self._who()} has been writing for {timeout:g} s."
            )

    def is_held_around(self, unit: Unit) -> bool:
        """Tell whether the writer is this very scope, or one around it, which cannot go on."""
        writer = self.writer
        return writer is not None and writer.scope in unit.scope.with_ancestors()

    def _refuse_deadlock(self, unit: Unit, writer: Unit) -> None:
        raise TransactionManagementError(
            f"{unit.scope} wants to write to {self.name} while the transaction of "
            f"{writer.scope}, around it, is writing; SQLite has one writer at a time. "
            "Do the writing in one scope, or end the outer transaction first."
        )

    def _who(self) -> str:
        writer = self.writer
        return "somebody" if writer is None else str(writer.scope)

    def _withdraw(self, unit: Unit) -> bool:
        with self._mutex:
            for entry in self._waiting:
                if entry[0] is unit:
                    self._waiting.remove(entry)
                    return True
        # It was granted in the very moment; hand it on, if the caller did not come to use it.
        self.leave(unit)
        return True

    def leave(self, unit: Unit) -> None:
        """Let the next one write."""
        with self._mutex:
            if self.writer is not unit:
                return
            self.writer, gate = self._waiting.popleft() if self._waiting else (None, None)
        if gate is not None:
            gate.open()

    def forget(self) -> None:
        """Start anew in a forked child, where no writer of the parent lives."""
        self._mutex = threading.Lock()
        self._waiting.clear()
        self.writer = None


_queues: WeakValueDictionary[str, WriteQueue] = WeakValueDictionary()
_queues_mutex = threading.Lock()


def write_queue(url: URL) -> WriteQueue:
    """Return the queue of this file: one for all databases of the process that use it."""
    name = url.database or ":memory:"
    if is_memory(url):
        return WriteQueue(name)
    key = os.path.realpath(name.removeprefix("file:").partition("?")[0])
    with _queues_mutex:
        queue = _queues.get(key)
        if queue is None:
            queue = _queues[key] = WriteQueue(name)
        return queue


def forget_writers() -> None:
    """Start anew in a forked child, where no writer of the parent lives."""
    for queue in list(_queues.values()):
        queue.forget()


def is_memory(url: URL) -> bool:
    """Tell whether the database is in memory."""
    name = url.database or ":memory:"
    return name == ":memory:" or ("mode=memory" in name or url.query.get("mode") == "memory")


def engine_options(url: URL, *, is_async: bool) -> dict[str, Any]:
    """Return what `create_engine` needs for the recipe."""
    options: dict[str, Any] = {"connect_args": {"isolation_level": None, "timeout": BUSY_TIMEOUT}}
    if url.get_driver_name() == "aiosqlite":
        options["connect_args"]["async_creator_fn"] = _connect_aiosqlite
    if is_memory(url):
        # One connection, which all take in turn: a second one would be another, empty database.
        pool = AsyncAdaptedQueuePool if is_async else ThreadQueuePool
        options |= {"poolclass": pool, "pool_size": 1, "max_overflow": 0}
        options["connect_args"]["check_same_thread"] = False
    return options


def _connect_aiosqlite(*args: Any, **kwargs: Any) -> Any:
    from dbscope.engine.aiosqlite import connect

    return connect(*args, **kwargs)


def install(engine: Engine) -> None:
    """Make an engine follow the recipe: once for its life."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:  # noqa: ARG001
        if connection.isolation_level is not None:  # an engine that was made elsewhere
            connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A unit's transaction is begun a moment later, when it is known whose it is.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.info["dbscope.begin"] = True

    @event.listens_for(engine, "before_cursor_execute")
    def before_statement(connection: Connection, *args: Any) -> None:  # noqa: ARG001
        if connection.info.get("dbscope.begin"):
            begin(connection, immediate=False)


def begin(connection: Connection, *, immediate: bool) -> None:
    """Send BEGIN by the shortest way that the driver has.

    A cursor of SQLAlchemy's adapter would take three turns of aiosqlite's thread instead of one.

    Raises:
        OperationalError: another process holds the lock for longer than the busy timeout.
    """
    del connection.info["dbscope.begin"]
    statement = "BEGIN IMMEDIATE" if immediate else "BEGIN"
    driver: Any = connection.connection.driver_connection
    try:
        result = driver.execute(statement)
        if isawaitable(result):
            await_only(result)
    except sqlite3.Error as error:
        raise OperationalError(statement, None, error) from error
    except BaseException:
        interrupt(connection)
        connection.invalidate()
        raise


def interrupt(connection: Connection) -> None:
    """Stop the statement that a cancelled task has left running in aiosqlite's thread.

    Else it goes on, holding the write lock, and nothing tells it that nobody waits any more.
    """
    driver = connection.connection.driver_connection
    connected: sqlite3.Connection | None = getattr(driver, "_connection", None)
    if connected is not None:
        connected.interrupt()
