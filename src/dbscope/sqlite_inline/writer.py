"""The place of a connection in the queue of those who write, and who it is for messages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, cast

from dbscope.aio import concurrency
from dbscope.sqlite_inline import lock_wait
from dbscope.sqlite_inline.pysqlite import is_in_transaction

if TYPE_CHECKING:
    import sqlite3

    from dbscope.sqlite_inline.queue import Queue

NOT_THE_USERS = ("dbscope.", "sqlalchemy.", "contextlib", "functools", "asyncio.")


class Writer:
    """One of those who write to a file; after a `with`, it writes on only in its transaction.

    Args:
        queue: of them all.
        connection: has the transaction.
    """

    __slots__ = ("_connection", "_task", "is_writing", "queue", "scope")

    def __init__(self, queue: Queue[Any], connection: sqlite3.Connection) -> None:
        self.queue = queue
        self._connection = connection
        self.is_writing = False
        self.scope: object = None  # of the unit that writes
        self._task: asyncio.Task[Any] | None = None

    def take(self, timeout: float) -> None:
        """Wait for the turn to write, at most so many seconds.

        Raises:
            OperationalError: it did not come; the error says who is writing.
        """
        if self.is_writing:
            return
        if not self.queue.take(self, timeout, concurrency.LoopGate):
            raise lock_wait.locked(None, self.queue.writer)
        self.is_writing = True
        self._task = this_task()

    def turn(self, timeout: float) -> Self:
        """Wait as `take` does; for a `with`, which gives back what no transaction needs."""
        self.take(timeout)
        return self

    def __enter__(self) -> None:
        """Write, or not."""

    def __exit__(self, *failed: object) -> None:
        """Let the next one write, unless a transaction of ours has begun to."""
        if self.is_writing and not is_in_transaction(self._connection):
            self.leave()

    def leave(self) -> None:
        """Let the next one write."""
        self.is_writing, self.scope, self._task = False, None, None
        self.queue.leave(self)

    def who_else(self) -> object:
        """Return who of ours has the lock that this one needs; None: somebody else has it."""
        writer = self.queue.writer
        # One that has the turn only may be waiting for the same lock.
        return None if writer is self or not getattr(writer, "has_lock", True) else writer

    @property
    def has_lock(self) -> bool:
        """Tell whether it is in its transaction, and does not wait to be."""
        return is_in_transaction(self._connection)

    def __str__(self) -> str:
        """Say who writes: its scope, or else its task and the line where that is now."""
        if self.scope is not None:
            return str(self.scope)
        task = self._task
        return "a connection" if task is None else f"task {task.get_name()!r}{line_of(task)}"


def this_task() -> asyncio.Task[Any] | None:
    """Return the task that runs; None without a loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def line_of(task: asyncio.Task[Any]) -> str:
    """Say at which line of the user's a task is; nothing if that is over."""
    line, waits_for = "", cast("Any", task.get_coro())
    while waits_for is not None:
        frame: Any = None
        for kind in ("cr", "gi", "ag"):
            frame = getattr(waits_for, f"{kind}_frame", None) or frame
        if frame and not frame.f_globals.get("__name__", "").startswith(NOT_THE_USERS):
            line = f" at {frame.f_code.co_filename}:{frame.f_lineno}"
        waits_for = getattr(waits_for, "cr_await", None) or getattr(waits_for, "gi_yieldfrom", None)
    return line
