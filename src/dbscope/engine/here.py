"""COMMIT in the task of the caller, until somebody cancels that.

A task of its own for each COMMIT costs three turns of the event loop. So the work is driven in the
task that waits for it, which looks to asyncio as if it waited for a future that cannot be
cancelled; only when that is tried, the rest of the work moves into a task of its own.

Only for work that waits for plain futures: a timeout (`asyncio.timeout`, `anyio.move_on_after`)
belongs to the task that it was entered in.
"""

from __future__ import annotations

import types
from asyncio import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")


class CalledAway(BaseException):
    """The task was cancelled while it drove the work.

    Args:
        waits_for: the future that the work goes on waiting for.
    """

    def __init__(self, waits_for: asyncio.Future[Any] | None) -> None:
        self.waits_for = waits_for


class Watched:
    """A future as asyncio's tasks take it: cancelling wakes who waits, and spares the future."""

    __slots__ = ("_asyncio_future_blocking", "_context", "_future", "_wake", "is_cancelled")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._asyncio_future_blocking = True
        self._future = future
        self.is_cancelled = False  # the waiting for it, by the task

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the future."""
        return self._future.get_loop()

    def add_done_callback(self, wake: Callable[[Any], object], *, context: Any) -> None:
        """Let the future wake the task."""
        self._wake = wake
        self._context = context
        self._future.add_done_callback(wake, context=context)

    def cancel(self, msg: Any = None) -> bool:
        """Wake the task with a cancellation; the future goes on.

        Returns:
            False if the task is woken already, as `asyncio.Future.cancel` does: a second call to
            it would come in the middle of what the task waits for next.
        """
        is_woken = self.is_cancelled or self._future.done()
        self.is_cancelled = True
        if is_woken:
            return False
        self._future.remove_done_callback(self._wake)
        cancelled = self._future.get_loop().create_future()
        cancelled.cancel(msg)
        cancelled.add_done_callback(self._wake, context=self._context)
        return True


@types.coroutine
def drive(work: Coroutine[Any, Any, T]) -> Generator[Any, None, T]:
    """Run the work in this task.

    Raises:
        CalledAway: from the cancellation that ended this; `resume` takes the work on.
    """
    while True:
        try:
            waits_for = work.send(None)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        watched = None if waits_for is None else Watched(waits_for)
        try:
            yield watched
        except CancelledError as cancelled:
            if watched is None or watched.is_cancelled:
                raise CalledAway(waits_for) from cancelled
        except Exception:  # noqa: S110
            pass  # the future's own error, which the work reads from it


@types.coroutine
def resume(
    work: Coroutine[Any, Any, T], waits_for: asyncio.Future[Any] | None
) -> Generator[Any, None, T]:
    """Run the rest of the work, in another task than the one that has begun it."""
    while True:
        advance = partial(work.send, None)
        try:
            if waits_for is None or not waits_for.done():
                yield waits_for
        except BaseException as error:
            advance = partial(work.throw, error)
        try:
            waits_for = advance()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


# Drivers of which COMMIT and ROLLBACK are known to do so.
PLAIN = frozenset({"aiosqlite", "asyncpg", "inline"})
PLAIN_PSYCOPG = (3, 3, 6)  # before, it waits in `asyncio.wait_for`


def waits_plainly(dialect: Any) -> bool:
    """Tell whether this driver waits for plain futures only."""
    if dialect.driver == "psycopg":
        return tuple(dialect.psycopg_version) >= PLAIN_PSYCOPG
    return dialect.driver in PLAIN
