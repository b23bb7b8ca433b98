"""`db.gather()`: functions run at once, each in a scope of its own: none shares a transaction."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dbscope.aio import shield, threads
from dbscope.scopes.scope import AsyncJobScope, SyncJobScope
from dbscope.scopes.settle import raise_first
from dbscope.unit import callsite

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Outcomes(Generic[T]):
    """What the functions returned, in their order; or what went wrong, in that of the failures."""

    def __init__(self, functions: tuple[Callable[[], Any], ...]) -> None:
        self.results: list[Any] = [None] * len(functions)
        self.errors: list[BaseException] = []
        self.is_over = False

    def fail(self, error: BaseException) -> None:
        """Note an error; a cancellation only if it is not that of a failure before."""
        if not (self.is_over and isinstance(error, asyncio.CancelledError)):
            self.errors.append(error)
        self.is_over = True

    def get(self) -> list[T]:
        """Return the results, or raise the first error with the others noted on it."""
        raise_first(self.errors)
        return self.results


async def gather_async(
    functions: tuple[Callable[[], Awaitable[T]], ...], limit: int | None
) -> list[T]:
    """Run the functions in tasks; the first failure cancels the others."""
    check(functions, limit)
    outcomes: Outcomes[T] = Outcomes(functions)
    free = asyncio.Semaphore(limit or len(functions))
    tasks: list[asyncio.Task[None]] = []

    async def in_task(index: int, function: Callable[[], Awaitable[T]]) -> None:
        try:
            async with free, AsyncJobScope(where=callsite.of(function)):
                outcomes.results[index] = await function()
        except BaseException as error:
            outcomes.fail(error)
            cancel(tasks)

    for each in enumerate(functions):
        if not outcomes.is_over:  # a task may begin, and fail, as soon as it is made
            tasks.append(asyncio.create_task(in_task(*each)))  # noqa: PERF401  (it is seen inside)
    try:
        await shield.all_of(tasks)
    except asyncio.CancelledError as error:
        outcomes.fail(error)
        raise
    return outcomes.get()


def cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel those that still run."""
    for task in tasks:
        task.cancel()


def gather(functions: tuple[Callable[[], T], ...], limit: int | None) -> list[T]:
    """Run the functions in threads; after the first failure no further one is begun."""
    check(functions, limit)
    outcomes: Outcomes[T] = Outcomes(functions)

    def in_thread(index: int, function: Callable[[], T]) -> None:
        try:
            if not outcomes.is_over:
                with SyncJobScope(where=callsite.of(function)):
                    outcomes.results[index] = function()
        except BaseException as error:
            outcomes.fail(error)

    with threads.uncounted(), ThreadPoolExecutor(limit or len(functions) or 1) as executor:
        calls = [partial(in_thread, *each) for each in enumerate(functions)]
        futures = [executor.submit(copy_context().run, call) for call in calls]
        try:
            wait(futures)
        except BaseException as error:  # Ctrl-C: those that run are waited for
            outcomes.fail(error)
    return outcomes.get()


def check(functions: tuple[Any, ...], limit: int | None) -> None:
    """Raise unless all of them can be called, and the limit lets any of them run."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, or None, not {limit!r}")
    strange = [each for each in functions if not callable(each)]
    for each in functions:
        if inspect.iscoroutine(each):
            each.close()  # else Python complains that nobody has awaited it
    if strange:
        raise TypeError(
            f"gather() calls the functions itself, each in a scope of its own; {strange[0]!r} is "
            "not callable; pass `partial(function, 1)`, or a lambda, instead of `function(1)`."
        )
