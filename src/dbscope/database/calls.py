"""`once`, `run` and `gather`: how both kinds of database call functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dbscope import arguments
from dbscope.once.once import AsyncOnce, KeyOf, SyncOnce
from dbscope.scopes.atomic import AsyncAtomic, SyncAtomic
from dbscope.scopes.backoff import checked
from dbscope.scopes.decorating import must_be_plain
from dbscope.scopes.entering import opening
from dbscope.scopes.gather import gather, gather_async
from dbscope.scopes.retry import run, run_async
from dbscope.unit import callsite

if TYPE_CHECKING:
    from dbscope.engine.source import EngineSource

T = TypeVar("T")


class AsyncCalls:
    """How an `AsyncDatabase` calls functions."""

    _source: EngineSource

    @opening
    def once(
        self, key: KeyOf, *, fingerprint: Any = None, keep: timedelta = timedelta(days=1)
    ) -> AsyncOnce:
        """Do something once: a later call with the same key returns what the first one has.

        The key is a row in the transaction of the work itself, so it is there exactly if the work
        is; two at once wait for each other. A context manager, and a decorator, around a block of
        its own (see `atomic`). It also tells what became of a COMMIT whose answer was lost.

        Args:
            key: a text; of a decorated function also a function of its arguments.
            fingerprint: of the input, to tell another one under the same key: a text, bytes, or
                what JSON can hold; of a decorated function also a function of its arguments.
            keep: for how long it is kept; then it may be done again, see `dbscope.once.purge`.

        Raises:
            KeyReused: the key was used with another fingerprint.

        Example:
            >>> async with db.once(f"payment:{payment.id}") as once:
            ...     if not once.done:
            ...         once.result = await pay(payment)
        """
        return AsyncOnce(self._source, key, fingerprint, keep)

    async def run(self, function: Callable[[], Awaitable[T]], attempts: int = 3) -> T:
        """Run the function in a transaction; after a conflict with another one, do all of it again.

        Each attempt has a fresh session, and begins after a random pause, whose limit doubles
        (20 ms, 40 ms, …, 1 s). Hooks are run of the attempt that won. Inside a transaction it is
        one block of that and is tried once: only the owner of a transaction can do it again.

        Args:
            function: async, without arguments; it must take what it changes from `db.session`.
            attempts: how many at most, the first one included.

        Returns:
            What the function returns; None if it was left by `Rollback`.

        Raises:
            Exception: the error of the last attempt, with notes about those before; at once, if
                it is not retryable (see `is_retryable`).

        Example:
            >>> await db.run(lambda: transfer(1, 2, amount=10))
        """
        arguments.check_call("the function of run()", function)
        retries = checked(attempts, "attempts", 1) - 1
        atomic = AsyncAtomic(self._source, where=callsite.of(function))
        return cast("T", await run_async(atomic, function, retries))

    async def gather(
        self, *functions: Callable[[], Awaitable[T]], limit: int | None = None
    ) -> list[T]:
        """Run functions at once, each in a scope, with a session and a transaction, of its own.

        Each is committed or rolled back as a whole when it ends. The first failure cancels the
        others, and is raised when they have cleaned up; those that had ended stay committed.

        Args:
            functions: async, without arguments.
            limit: how many run at the same time; each needs a connection. None: all of them.

        Returns:
            What they return, in their order.

        Raises:
            Exception: that of the first that failed; other failures are noted on it.
            TypeError: something cannot be called: a coroutine instead of a function.

        Example:
            >>> first, second = await db.gather(partial(report, 1), partial(report, 2))
        """
        return await gather_async(functions, limit)


class SyncCalls:
    """How a `Database` calls functions."""

    _source: EngineSource

    @opening
    def once(
        self, key: KeyOf, *, fingerprint: Any = None, keep: timedelta = timedelta(days=1)
    ) -> SyncOnce:
        """Do something once; see `AsyncDatabase.once`."""
        return SyncOnce(self._source, key, fingerprint, keep)

    def run(self, function: Callable[[], T], attempts: int = 3) -> T:
        """Run the function in a transaction, after a conflict again; see `AsyncDatabase.run`."""
        arguments.check_call("the function of run()", function)
        must_be_plain(function, "run")
        retries = checked(attempts, "attempts", 1) - 1
        return cast(
            "T", run(SyncAtomic(self._source, where=callsite.of(function)), function, retries)
        )

    def gather(self, *functions: Callable[[], T], limit: int | None = None) -> list[T]:
        """Run functions at once, in threads, each in its own scope; see `AsyncDatabase.gather`.

        The first failure is raised when those that run have ended; no further one is begun.
        """
        self._source.check_loop()
        return gather(functions, limit)
