"""Where the connection of a sandbox lives, and how code from elsewhere gets there.

A connection of an async driver belongs to an event loop. A test may have several: its own, that of
a `TestClient`, threads without any. So the connection has a loop of its own, in a thread.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
from sqlalchemy.util import await_only

from dbscope.aio import concurrency, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class Home(Protocol):
    """Where the connection lives."""

    def call(self, function: Callable[[], T]) -> T:
        """Call a function of the connection there, and wait for it in the way of the caller."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Anywhere:
    """The home of a plain driver: each thread in turn."""

    def __init__(self) -> None:
        self._turn = threading.RLock()

    def call(self, function: Callable[[], T]) -> T:
        """Call it here; from a greenlet on a loop, in a thread."""
        if concurrency.is_in_greenlet():
            return await_only(_to_the_end(threads.in_thread(self._call, function)))
        return self._call(function)

    def _call(self, function: Callable[[], T]) -> T:
        with self._turn:
            return function()

    def close(self) -> None:
        """Nothing to end."""


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for a thread, which cannot be cancelled, and deliver the cancellation then."""
    return await outlasted(asyncio.ensure_future(work), None)


class InLoop:
    """The home of an async driver: one event loop.

    Args:
        loop: whose it is.
        cancels: what waits there is cancelled when its caller is; else it is waited for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, cancels: bool) -> None:
        self.loop = loop
        self.cancels = cancels
        self._turn: asyncio.Lock | None = None
        self._user: asyncio.Task[Any] | None = None  # whose turn it is

    def call(self, function: Callable[[], T]) -> T:
        """Call it in the loop; wait for it in the caller's loop, or block the caller's thread."""
        running = threads.running_loop()
        if running is self.loop:
            if asyncio.current_task() is self._user:
                return function()  # which is there already
            return await_only(self._in_turn(function))
        done: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []
        self._hand_in(function, done, tasks)
        if concurrency.is_in_greenlet():
            cancel = partial(self._cancel, tasks) if self.cancels else None
            return await_only(outlasted(asyncio.wrap_future(done), cancel))
        return done.result()

    def _hand_in(
        self, function: Callable[[], T], done: Future[T], tasks: list[asyncio.Task[T]]
    ) -> None:
        self.loop.call_soon_threadsafe(self._start, function, done, tasks)

    def _start(
        self, function: Callable[[], T], done: Future[T], tasks: list[asyncio.Task[T]]
    ) -> None:
        task = self.loop.create_task(self._in_turn(function))
        tasks.append(task)
        task.add_done_callback(partial(_hand_over, done))

    def _cancel(self, tasks: list[asyncio.Task[Any]]) -> None:
        self.loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])

    async def _in_turn(self, function: Callable[[], T]) -> T:
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            self._user = asyncio.current_task()
            try:
                return await concurrency.in_greenlet(function)
            finally:
                self._user = None

    def close(self) -> None:
        """Leave the loop to who has it."""


def _hand_over(done: Future[T], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        done.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(task.result())


async def outlasted(waiting: asyncio.Future[T], cancel: Callable[[], None] | None) -> T:
    """Wait for the future; if the caller is cancelled, until it has ended all the same."""
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        if cancel is not None:
            cancel()
        with anyio.CancelScope(shield=True):
            while not waiting.done():
                with suppress(BaseException):
                    await asyncio.shield(waiting)
        if not waiting.cancelled():
            waiting.exception()
        raise


class InThread(InLoop):
    """A home of its own: an event loop in a thread, which ends with it."""

    def __init__(self, *, cancels: bool) -> None:
        super().__init__(asyncio.new_event_loop(), cancels=cancels)
        run = partial(_run, self.loop)
        self._thread = threading.Thread(target=run, name="dbscope-sandbox", daemon=True)
        self._thread.start()
        weakref.finalize(self, _stop, self.loop)  # of a database that nobody has disposed of

    def close(self) -> None:
        """Stop the loop, and wait for that; a caller on a loop of its own does not block it."""
        if concurrency.is_in_greenlet():
            await_only(_to_the_end(threads.in_thread(self._end)))
        else:
            self._end()

    def _end(self) -> None:
        _stop(self.loop)
        self._thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    with suppress(RuntimeError):  # it was stopped and closed
        loop.call_soon_threadsafe(loop.stop)
