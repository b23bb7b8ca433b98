"""`db.once(key)`: a block that is done once, as a context manager and as a decorator."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dbscope import arguments
from dbscope.aio import concurrency
from dbscope.arguments import Rule
from dbscope.errors import ScopeClosed
from dbscope.once import store
from dbscope.once.claiming import claim, session_of
from dbscope.once.store import Claim
from dbscope.once.values import KEEP, NOT_FOR_EVER, fingerprint_of, restored, stored
from dbscope.scopes.atomic import AsyncAtomic, SyncAtomic
from dbscope.scopes.decorating import must_be_async, must_be_plain, wraps
from dbscope.scopes.entering import Entered, Plain, Waiting
from dbscope.unit import callsite
from dbscope.unit.current import unit_of

if TYPE_CHECKING:
    from types import TracebackType

    from dbscope.scopes.decorating import AsyncF, F
    from dbscope.unit.source import Source
    from dbscope.unit.unit import Unit

KEY = Rule(
    "a text that is not empty, or a function of the arguments",
    lambda value: callable(value) or (isinstance(value, str) and bool(value)),
)
NOTHING = object()


class Once:
    """What is done under a key: whether it was done before, and what comes of it.

    Args:
        key: it.
        done: it was done before, so that there is nothing left to do.
        result: what came of it.
    """

    def __init__(self, key: str, *, done: bool, result: Any = NOTHING) -> None:
        self.key = key
        self.done = done
        self._result = result
        self._is_left = False

    @property
    def result(self) -> Any:
        """What came of it, then or now; what JSON can hold.

        Assign it where it is done, inside the block.

        Raises:
            TypeError: it was done before, or JSON cannot hold it.
            ScopeClosed: the block was left.
        """
        return None if self._result is NOTHING else self._result

    @result.setter
    def result(self, value: Any) -> None:
        if self.done:
            raise TypeError(f"{self.key!r} was done before: its result is not to be changed.")
        if self._is_left:
            raise ScopeClosed(
                f"The block of once({self.key!r}) was left: what is assigned to its result now is "
                "stored nowhere. Assign it inside."
            )
        stored(value)
        self._result = value

    def leave(self) -> None:
        """Take no result from now on."""
        self._is_left = True

    def __repr__(self) -> str:
        return f"<Once {self.key!r} {'done before' if self.done else 'being done'}>"


def begin(unit: Unit, wanted: Claim) -> Once:
    """Claim the key in the innermost block of the unit; told once for both kinds."""
    found = claim(unit, wanted)
    if found is None:
        return Once(wanted.key, done=False)
    return Once(wanted.key, done=True, result=restored(found.result))


def end(unit: Unit, claimed: Claim, once: Once) -> None:
    """Store the result, if there is one to be stored."""
    if not once.done and once.result is not None:
        store.finish(session_of(unit), claimed, stored(once.result))


class OnceBase(Entered):
    """What both kinds of `once()` share; each entering is one of its own."""

    called = "once"

    def __init__(
        self,
        source: Source,
        key: Any,
        fingerprint: Any = None,
        keep: timedelta = timedelta(days=1),
        where: object = None,
    ) -> None:
        self.source = source
        self.key = arguments.check("key", key, KEY, TypeError)
        self.fingerprint = fingerprint
        arguments.check("keep", keep, KEEP, TypeError)
        self.keep = arguments.check("keep", keep, NOT_FOR_EVER, ValueError)
        super().__init__(where)
        self._entered: list[Any] = []

    def claim(self) -> Claim:
        """Return what is to be claimed.

        Raises:
            TypeError: key or fingerprint is a function, and there are no arguments for it.
        """
        self.is_used = True
        if callable(self.key) or callable(self.fingerprint):
            raise TypeError(
                "A key that is a function of the arguments needs the decorator: `@db.once(...)`."
            )
        return Claim(self.key, fingerprint_of(self.fingerprint), self.keep)

    def of_call(self, where: object, args: Any, kwargs: Any) -> Any:
        """Return the same for one call of a decorated function."""
        key = self.key(*args, **kwargs) if callable(self.key) else self.key
        if not isinstance(key, str) or not key:
            raise TypeError(f"The key of once must be a text that is not empty, not {key!r}.")
        given = self.fingerprint
        fingerprint = given(*args, **kwargs) if callable(given) else given
        return type(self)(self.source, key, fingerprint, self.keep, where)


class AsyncOnce(OnceBase, Waiting):
    """A block of an `AsyncDatabase` that is done once."""

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Once]:
        """Open the block, claim the key in it, and store the result when it is left."""
        wanted = self.claim()
        async with AsyncAtomic(self.source, where=self.where):
            unit = unit_of(self.source)
            once = await concurrency.in_greenlet(begin, unit, wanted)
            try:
                yield once
            finally:
                once.leave()
            await concurrency.in_greenlet(end, unit, wanted, once)

    async def __aenter__(self) -> Once:
        opened = self.opened()
        once = await opened.__aenter__()
        self._entered.append(opened)
        return once

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        swallowed: bool | None = await self._entered.pop().__aexit__(kind, error, traceback)
        return swallowed

    def __call__(self, function: AsyncF) -> AsyncF:
        """Decorate an `async def` function: a later call returns what the first one has."""
        must_be_async(function, "once")
        self.is_used = True
        where = callsite.of(function)

        @wraps(function, "once")
        async def done_once(*args: Any, **kwargs: Any) -> Any:
            async with self.of_call(where, args, kwargs) as once:
                if not once.done:
                    once.result = await function(*args, **kwargs)
            return once.result

        return done_once


class SyncOnce(OnceBase, Plain):
    """A block of a `Database` that is done once."""

    @contextmanager
    def opened(self) -> Generator[Once]:
        """Open the block, claim the key in it, and store the result when it is left."""
        wanted = self.claim()
        with SyncAtomic(self.source, where=self.where):
            unit = unit_of(self.source)
            once = begin(unit, wanted)
            try:
                yield once
            finally:
                once.leave()
            end(unit, wanted, once)

    def __enter__(self) -> Once:
        opened = self.opened()
        once = opened.__enter__()
        self._entered.append(opened)
        return once

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        swallowed: bool | None = self._entered.pop().__exit__(kind, error, traceback)
        return swallowed

    def __call__(self, function: F) -> F:
        """Decorate a plain function: a later call returns what the first one has."""
        must_be_plain(function, "once")
        self.is_used = True
        where = callsite.of(function)

        @wraps(function, "once")
        def done_once(*args: Any, **kwargs: Any) -> Any:
            with self.of_call(where, args, kwargs) as once:
                if not once.done:
                    once.result = function(*args, **kwargs)
            return once.result

        return done_once


KeyOf = str | Callable[..., str]
