"""`advisory_lock()`: a lock by a name, as a context manager and as a decorator; sync and async."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from dbscope import arguments
from dbscope.aio import concurrency, shield
from dbscope.engine.advisory import AdvisoryLock
from dbscope.scopes.decorating import around, around_async
from dbscope.scopes.entering import Entered, Plain, Waiting
from dbscope.unit import callsite

if TYPE_CHECKING:
    from types import TracebackType

    from dbscope.engine.source import EngineSource
    from dbscope.scopes.decorating import AsyncF, F


class Locking(Entered):
    """What both kinds of `advisory_lock()` share; each entering takes a lock of its own."""

    called = "advisory_lock"

    def __init__(
        self, source: EngineSource, key: str, timeout: float | None, where: object = None
    ) -> None:
        source.require("advisory_locks")
        self.source = source
        self.key = arguments.check("key of advisory_lock()", key, arguments.TEXT, TypeError)
        self.timeout = arguments.check("timeout", timeout, arguments.PATIENCE)
        super().__init__(where)
        self._held: list[AdvisoryLock] = []

    def made(self) -> AdvisoryLock:
        """Return the lock to be taken."""
        self.is_used = True
        return AdvisoryLock(self.source, self.key, self.timeout)

    def of_call(self, where: object) -> Any:
        """Return the same for one call of a decorated function."""
        return type(self)(self.source, self.key, self.timeout, where)


class AsyncLocking(Locking, Waiting):
    """A lock of an `AsyncDatabase`."""

    async def __aenter__(self) -> None:
        lock = self.made()
        await concurrency.in_greenlet(lock.acquire)
        self._held.append(lock)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        work = concurrency.in_greenlet(self._held.pop().release, error)
        await shield.to_the_end(work, limit=self.source.finish_timeout)

    def __call__(self, function: AsyncF) -> AsyncF:
        """Decorate an `async def` function; each call takes the lock."""
        return around_async(function, self, partial(self.of_call, callsite.of(function)))


class SyncLocking(Locking, Plain):
    """A lock of a `Database`."""

    def __enter__(self) -> None:
        lock = self.made()
        lock.acquire()
        self._held.append(lock)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.pop().release(error)

    def __call__(self, function: F) -> F:
        """Decorate a plain function; each call takes the lock."""
        return around(function, self, partial(self.of_call, callsite.of(function)))
