"""The only crossing between sync and async: call, in_greenlet, in_thread, to_the_end."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet as in_sqlalchemy_greenlet

from dbscope.engine import here, stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable

    from dbscope.unit.turn import Gate
    from dbscope.unit.unit import Unit

MAX_THREADS = 1000
_changes: set[asyncio.Task[None]] = set()

P = ParamSpec("P")
T = TypeVar("T")


def in_greenlet(
    function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> Coroutine[Any, Any, T]:
    """Run a plain function that may wait inside, as `AsyncSession` runs its `Session`."""
    return carriers().carry(function, *args, **kwargs)  # type: ignore[no-any-return]


@cache
def carriers() -> Any:
    """Return our greenlets, where greenlet is installed."""
    from dbscope.engine import carriers

    return carriers


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a plain function that may block, in a worker thread of ours.

    Endpoints may take all of the application's threads while they wait for a connection that only
    the end of another request gives back (https://github.com/fastapi/fastapi/issues/3205).
    """
    call = partial(copy_context().run, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(threads(), call)


@cache
def threads() -> ThreadPoolExecutor:
    """Return our worker threads: made when needed, and few in fact.

    Their number is no limit: a hook may wait for what only another COMMIT gives back.
    """
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="dbscope")


def forget_threads() -> None:
    """Start anew in a forked child, where none of them lives."""
    threads.cache_clear()
    stopped.forget_watch()


@contextmanager
def uncounted() -> Generator[None, None, None]:
    """While it lasts, this worker thread does not count against the limit of worker threads.

    Endpoints that wait for a connection could otherwise take all threads, while the requests that
    have one need another thread to get their response validated, and so to give it back
    (https://github.com/fastapi/fastapi/issues/3205).
    """
    loop = stopped.loop_of(threading.current_thread())
    if loop is None:
        yield
        return
    _change_limit(loop, 1)
    try:
        yield
    finally:
        _change_limit(loop, -1)


def _change_limit(loop: asyncio.AbstractEventLoop, by: int) -> None:
    # Nobody waits for it: a loop that was stopped meanwhile would never answer.
    with suppress(RuntimeError):  # it was closed
        loop.call_soon_threadsafe(_begin_change, loop, by)


def _begin_change(loop: asyncio.AbstractEventLoop, by: int) -> None:
    task = loop.create_task(_changed(by))  # anyio knows its loop in tasks only
    _changes.add(task)
    task.add_done_callback(_changes.discard)


async def _changed(by: int) -> None:
    anyio.to_thread.current_default_thread_limiter().total_tokens += by


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
        return await here.drive(work)
    except here.CalledAway as away:
        cancelled = away.__cause__
        task = asyncio.create_task(_resumed(work, away.waits_for))
    return await _deliver(cancelled, task, limit)


async def _resumed(work: Coroutine[Any, Any, T], waits_for: asyncio.Future[Any] | None) -> T:
    return await here.resume(work, waits_for)


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


async def look_for_cancellation() -> None:
    """Raise a cancellation that waits to be delivered: before COMMIT it still counts."""
    await anyio.lowlevel.checkpoint_if_cancelled()
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        await asyncio.sleep(0)


class LoopGate:
    """A gate for greenlets on an event loop."""

    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_event_loop()  # which runs, or will when it is waited for
        self._future: asyncio.Future[None] = self._loop.create_future()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait without blocking the loop."""
        await_only(asyncio.wait((self._future,), timeout=timeout))
        return self._future.done()

    def open(self) -> bool:
        """Open it, from whatever thread; False: its loop is closed, so nobody waits any more."""
        try:
            self._loop.call_soon_threadsafe(self._open)
        except RuntimeError:
            return False
        return True

    def _open(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class ThreadGate:
    """A gate for threads."""

    __slots__ = ("_event", "_is_open")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._is_open = False

    def wait(self, timeout: float | None = None) -> bool:
        """Block the thread; False, too, if nobody will come to open it."""
        with uncounted(), stopped.woken_by(self._event.set):
            if not stopped.is_left():
                self._event.wait(timeout)
        return self._is_open

    def open(self) -> bool:
        """Open it."""
        self._is_open = True
        self._event.set()
        return True


class Greenlets:
    """The world of `AsyncDatabase`: plain functions that wait on the event loop."""

    def __init__(self) -> None:
        from greenlet import getcurrent

        self.me: Callable[[], object] = getcurrent
        self.can_wait: Callable[[], bool] = carriers().can_wait  # reading an attribute cannot

    def gate(self) -> Gate:
        """Return a gate for the running loop."""
        return LoopGate()

    def sleep(self, seconds: float) -> None:
        """Wait without blocking the loop."""
        await_only(asyncio.sleep(seconds))

    def call(self, function: Callable[[], object]) -> None:
        """Call a hook; what it returns to be awaited is awaited."""
        result = function()
        if inspect.isawaitable(result):
            await_only(result)

    def run(self, function: Callable[[], object]) -> None:
        """Run the end of a unit: here, for a greenlet carries it already."""
        function()


class Threads:
    """The world of `Database`: plain functions that block."""

    def __init__(self) -> None:
        self.me: Callable[[], object] = threading.get_ident

    def gate(self) -> Gate:
        """Return a gate for threads."""
        return ThreadGate()

    def can_wait(self) -> bool:
        """Tell that a thread always can."""
        return True

    def sleep(self, seconds: float) -> None:
        """Block the thread."""
        time.sleep(seconds)

    def call(self, function: Callable[[], object]) -> None:
        """Call a hook."""
        function()

    def run(self, function: Callable[[], object]) -> None:
        """Run the end of a unit: in a thread, if what carries it is a greenlet on a loop."""
        if is_in_greenlet():
            await_only(in_thread(function))
        else:
            function()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread; None if there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_in_greenlet() -> bool:
    """Tell whether a greenlet of SQLAlchemy's carries the code that runs now."""
    try:
        return in_sqlalchemy_greenlet()
    except ImportError:
        return False


def end(
    units: list[Unit], function: Callable[..., T], *args: Any, keep: bool, **kwargs: Any
) -> Coroutine[Any, Any, T]:
    """Carry a plain function that ends these units, to the end."""
    limit, plain = 0.0, keep
    for unit in units:
        limit = max(limit, unit.source.finish_timeout)
        plain = plain and unit.ends_plainly()
    if any(unit.turn.is_taken() for unit in units):
        limit *= 3  # to wait for whoever has it, to end that, and for the end itself
    work = carried(units, function, *args, keep=keep, **kwargs)
    return to_the_end(work, limit=limit, at_once=not keep, starts_here=plain)


def carried(
    units: Iterable[Unit], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> Coroutine[Any, Any, T]:
    """Run a plain function that ends these units: in a greenlet, or in a thread if all block."""
    for unit in units:
        if isinstance(unit.turn.world, Greenlets):
            return in_greenlet(function, *args, **kwargs)
    return in_thread(function, *args, **kwargs)


async def before_the_end(
    units: Iterable[Unit], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a plain function of these units where a cancellation still reaches what it waits for.

    A thread cannot be told; it is waited for, and the cancellation is delivered then.
    """
    work = carried(units, function, *args, **kwargs)
    if any(isinstance(unit.turn.world, Greenlets) for unit in units):
        return await work
    return await to_the_end(work, limit=max(unit.source.finish_timeout for unit in units))
