"""Calls of SQLite for one connection: on the loop or in a thread, and again while it is locked."""

from __future__ import annotations

import asyncio
import sqlite3
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.util import await_only

from dbscope.aio import threads
from dbscope.sqlite_inline import lock_wait, worker_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

BUDGET = 0.002  # seconds that a read may take on the loop
STEPS = 200  # of SQLite's virtual machine, between two looks at the clock


class Calls:
    """The calls of one connection, of which there is one at a time.

    Args:
        connection: the driver's.
        timeout: the longest time to wait for a lock, in seconds.
        holder: tells who has the lock, if that is known.
    """

    __slots__ = (
        "_deadline",
        "_handler",
        "_is_watched",
        "_limit",
        "_steps",
        "_work",
        "connection",
        "holder",
        "timeout",
    )

    def __init__(
        self, connection: sqlite3.Connection, timeout: float, holder: Callable[[], object]
    ) -> None:
        self.connection = connection
        self.timeout = timeout
        self.holder = holder
        self._limit = [inf]
        self._work: asyncio.Future[Any] | None = None
        self.deadline = inf
        self.watch(None, 0)

    @property
    def deadline(self) -> float:
        """When a statement ends at the latest, by the clock `monotonic`."""
        return self._deadline

    @deadline.setter
    def deadline(self, end: float) -> None:
        self._deadline = self._limit[0] = end

    def watch(self, handler: Callable[[], object] | None, n: int) -> None:
        """Call a handler every so many steps, besides our own look at the clock."""
        limit, clock = self._limit, monotonic

        def look() -> bool:
            return clock() > limit[0] or bool(handler and handler())

        self._handler = look
        self._steps = STEPS if handler is None else n
        self._is_watched = handler is not None  # by somebody else, in threads too
        self.connection.set_progress_handler(look, self._steps)

    # -- on the loop -------------------------------------------------------------------------------

    def briefly(self, call: Callable[..., T], *args: Any) -> T:
        """Call what only reads; a statement that takes too long for the loop ends.

        Raises:
            TooLong: it was ended; nothing has changed.
        """
        limit = self._limit
        limit[0] = min(monotonic() + BUDGET, self._deadline)
        try:
            return call(*args)
        except sqlite3.OperationalError as error:
            if lock_wait.is_interrupted(error) and monotonic() < self._deadline:
                raise TooLong from error
            raise
        finally:
            limit[0] = self._deadline

    def patiently(self, call: Callable[[], T]) -> T:
        """Call, and again after a pause as long as another connection has the lock.

        Raises:
            OperationalError: it was not given in time.
        """
        try:
            return call()
        except sqlite3.OperationalError as error:
            return self.again(call, error)

    def again(self, call: Callable[[], T], error: sqlite3.OperationalError) -> T:
        """Go on with `patiently` after the first call has raised this."""
        for pause in lock_wait.pauses(min(self.timeout, self._deadline - monotonic())):
            if not lock_wait.is_busy(error):
                raise error
            await_only(asyncio.sleep(pause))
            try:
                return call()
            except sqlite3.OperationalError as next_error:
                error = next_error
        if not lock_wait.is_busy(error):
            raise error
        raise lock_wait.locked(error, self.holder()) from error

    # -- in a thread -------------------------------------------------------------------------------

    def in_thread(self, call: Callable[[], T]) -> T:
        """Call in a thread; who is cancelled interrupts it, and what was begun is undone."""
        quiet = partial(self._quietly, call)
        return self.wait_for(worker_threads.interruptible(quiet, self.connection, self._deadline))

    def to_the_end(self, call: Callable[[], T]) -> T:
        """Call in a thread, and wait for it even if cancelled."""
        return self.wait_for(worker_threads.to_the_end(partial(self._quietly, call)))

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work with the connection; others wait meanwhile."""
        return await_only(self._alone(work))

    def wait_for_others(self) -> None:
        """Wait for what another task does with the connection in a thread."""
        while self._work is not None and self._work.get_loop() is threads.running_loop():
            await_only(asyncio.wait((self._work,)))

    async def _alone(self, work: Coroutine[Any, Any, T]) -> T:
        self._work = done = asyncio.get_running_loop().create_future()
        try:
            return await work
        finally:
            self._work = None
            done.set_result(None)

    def _quietly(self, call: Callable[[], T]) -> T:
        """Call without our look at the clock, which would wait for Python's lock each time."""
        if self._is_watched:
            return call()
        self.connection.set_progress_handler(None, 0)
        try:
            return call()
        finally:
            self.connection.set_progress_handler(self._handler, self._steps)


class TooLong(Exception):
    """A read has taken too long for the loop."""
