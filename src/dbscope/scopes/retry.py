"""`db.run()` and `@db.atomic(retry=...)`: a whole transaction is done again, never a part."""

from __future__ import annotations

import asyncio
import functools
import time
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dbscope.scopes import unserved
from dbscope.scopes.backoff import Attempts
from dbscope.scopes.decorating import AsyncF, F, wraps
from dbscope.scopes.guards import unit_here
from dbscope.scopes.scope import AsyncJobScope, SyncJobScope
from dbscope.unit.block import Block, Outcome
from dbscope.unit.policy import Mode
from dbscope.unit.sessions import is_by_hand

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dbscope.scopes.decorating import Place
    from dbscope.scopes.scope import JobScope
    from dbscope.unit.options import AtomicOptions
    from dbscope.unit.source import Source

T = TypeVar("T")


class Repeatable(Protocol):
    """An atomic block that can be opened again."""

    source: Source
    asked: AtomicOptions
    where: object

    @property
    def place(self) -> Place | None:
        """Tell where a function that it decorates can be called."""


class AsyncRepeatable(Repeatable, AbstractAsyncContextManager[Block, bool | None], Protocol):
    """One of an `AsyncDatabase`."""


class SyncRepeatable(Repeatable, AbstractContextManager[Block, bool | None], Protocol):
    """One of a `Database`."""


def is_inside(atomic: Repeatable) -> bool:
    """Tell whether there is a transaction already: only its owner can do all of it again."""
    if atomic.asked.own:
        return False
    unit = unit_here(atomic.source)
    if unit is None:
        return False
    return unit.block is not None or (unit.session is not None and is_by_hand(unit.session))


def pause_after(
    attempts: Attempts, error: Exception, block: Block | None, job: JobScope, source: Source
) -> float | None:
    """Return the seconds to wait before the next attempt; None if there is to be none.

    Whatever the error is: a transaction that was committed (the error is a hook's then), or may
    have been, is not done again; nor is what has stored something in another one.
    """
    if block is not None and block.outcome is Outcome.ROLLED_BACK and not job.stored:
        seconds = attempts.pause_after(error, block, source.retry_codes)
        if seconds is not None:
            return seconds
    attempts.note_on(error)
    return None


async def run_async(
    atomic: AsyncRepeatable, function: Callable[[], Awaitable[T]], retries: int
) -> T | None:
    """Run the function in this block; after a conflict again, with a fresh session."""
    result: T | None = None
    if is_inside(atomic):
        async with atomic:
            result = await function()
        return result  # noqa: RET504  (None if the block was left by Rollback)
    unserved.check(atomic.source, atomic.where)
    attempts = Attempts(retries)
    while True:
        block: Block | None = None
        job = AsyncJobScope(Mode.AUTOCOMMIT, atomic.where, attempts)
        try:
            async with job, atomic as block:
                result = await function()
        except Exception as error:
            seconds = pause_after(attempts, error, block, job, atomic.source)
            if seconds is None:
                raise
        else:
            return result
        finally:
            block = None  # it refers to the error, whose frames refer to it
        await asyncio.sleep(seconds)


def run(atomic: SyncRepeatable, function: Callable[[], T], retries: int) -> T | None:
    """Run the function in this block; after a conflict again, with a fresh session."""
    result: T | None = None
    if is_inside(atomic):
        with atomic:
            result = function()
        return result  # noqa: RET504  (None if the block was left by Rollback)
    unserved.check(atomic.source, atomic.where)
    attempts = Attempts(retries)
    while True:
        block: Block | None = None
        job = SyncJobScope(Mode.AUTOCOMMIT, atomic.where, attempts)
        try:
            with job, atomic as block:
                result = function()
        except Exception as error:
            seconds = pause_after(attempts, error, block, job, atomic.source)
            if seconds is None:
                raise
        else:
            return result
        finally:
            block = None  # it refers to the error, whose frames refer to it
        time.sleep(seconds)


def decorated_async(atomic: AsyncRepeatable, function: AsyncF, retries: int) -> AsyncF:
    """Return the function; each call is tried as often as that."""

    @wraps(function, "atomic", atomic.place)
    async def retried(*args: Any, **kwargs: Any) -> Any:
        return await run_async(atomic, functools.partial(function, *args, **kwargs), retries)

    return retried


def decorated(atomic: SyncRepeatable, function: F, retries: int) -> F:
    """Return the function; each call is tried as often as that."""

    @wraps(function, "atomic", atomic.place)
    def retried(*args: Any, **kwargs: Any) -> Any:
        return run(atomic, functools.partial(function, *args, **kwargs), retries)

    return retried


NOT_A_BLOCK = "a block cannot be done again, only a function can: `@db.atomic(retry=...)`"
