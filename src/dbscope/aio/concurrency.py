"""How plain code waits: in greenlets on an event loop, or in threads."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet as in_sqlalchemy_greenlet

from dbscope.aio import stopped
from dbscope.aio.threads import in_thread, uncounted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


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
    from dbscope.aio import greenlets

    return greenlets


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

    def task(self) -> asyncio.Task[Any] | None:
        """Return the task that runs now."""
        try:
            return asyncio.current_task()
        except RuntimeError:  # a thread that only adds to the session
            return None

    def gate(self) -> LoopGate:
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

    def task(self) -> None:
        """Return that there is none."""

    def gate(self) -> ThreadGate:
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


def new_gate() -> LoopGate | ThreadGate:
    """Return what the running code can wait at."""
    return LoopGate() if is_in_greenlet() else ThreadGate()


def is_in_greenlet() -> bool:
    """Tell whether a greenlet of SQLAlchemy's carries the code that runs now."""
    try:
        return in_sqlalchemy_greenlet()
    except ImportError:
        return False
