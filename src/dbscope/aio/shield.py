"""COMMIT in the task of the caller, until somebody cancels that.

A task of its own for each COMMIT costs three turns of the event loop. So the work is driven in the
task that waits for it, which looks to asyncio as if it waited for a future that cannot be
cancelled; only when that is tried, the rest of the work moves into a task of its own.

Only for work that waits for plain futures: a timeout (`asyncio.timeout`, `anyio.move_on_after`)
belongs to the task that it was entered in.
"""

from __future__ import annotations

import asyncio
import types
from asyncio import CancelledError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio
import anyio.lowlevel

from dbscope.aio import stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")


class DriveCancelled(BaseException):
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
        DriveCancelled: from the cancellation that ended this; `resume` takes the work on.
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
                raise DriveCancelled(waits_for) from cancelled
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


async def to_the_end(
    work: Coroutine[Any, Any, T], *, limit: float, at_once: bool = False, starts_here: bool = False
) -> T:
    """Run the work and wait for it, whatever happens to the caller.

    Both kinds of cancellation wait until it is done, and are then delivered: `task.cancel()` is
    caught by the loop, an anyio scope, which would cancel again and again, by the shield.

    Args:
        work: the coroutine: COMMIT or ROLLBACK, close, hooks.
        limit: seconds that it may still take after the caller was cancelled.
        at_once: count them from the beginning; for a ROLLBACK, which nobody needs to wait for.
        starts_here: run it in the task of the caller until that is cancelled; for work that waits
            for plain futures only. Otherwise in a task of its own.
    """
    if not starts_here:
        return await _in_own_task(work, limit=limit, at_once=at_once)
    try:
        return await drive(work)
    except DriveCancelled as away:
        cancelled = away.__cause__
        task = asyncio.create_task(_resumed(work, away.waits_for))
    return await _deliver(cancelled, task, limit)


async def _resumed(work: Coroutine[Any, Any, T], waits_for: asyncio.Future[Any] | None) -> T:
    return await resume(work, waits_for)


async def _in_own_task(work: Coroutine[Any, Any, T], *, limit: float, at_once: bool) -> T:
    task = asyncio.create_task(work)
    timer = task.get_loop().call_later(limit, task.cancel) if at_once else None
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as cancelled:
        if task.cancelled():
            raise
        return await _deliver(cancelled, task, None if at_once else limit)
    finally:
        if timer is not None:
            timer.cancel()


async def _deliver(
    cancelled: BaseException | None, task: asyncio.Task[Any], limit: float | None
) -> NoReturn:
    """Wait for the task, then raise the cancellation that had to wait for it."""
    stopped.watch()  # the loop may be stopped before that
    timer = None if limit is None else task.get_loop().call_later(limit, task.cancel)
    try:
        with anyio.CancelScope(shield=True):
            await _outlast(task)
    finally:
        if timer is not None:
            timer.cancel()
    cancelled = cancelled or asyncio.CancelledError()
    if not task.cancelled() and (failure := task.exception()) is not None:
        cancelled.__context__ = failure
    raise cancelled


async def all_of(tasks: list[asyncio.Task[None]]) -> None:
    """Wait until all have ended, however; if the caller is cancelled, cancel them first."""
    together = asyncio.gather(*tasks, return_exceptions=True)
    try:
        await asyncio.shield(together)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        with anyio.CancelScope(shield=True):
            await _outlast(together)
        raise


async def _outlast(task: asyncio.Future[Any]) -> None:
    while not task.done():
        with suppress(BaseException):  # another cancellation; the task's own error is read later
            await asyncio.shield(task)


async def checkpoint() -> None:
    """Raise a cancellation that waits to be delivered: before COMMIT it still counts."""
    await anyio.lowlevel.checkpoint_if_cancelled()
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        await asyncio.sleep(0)
