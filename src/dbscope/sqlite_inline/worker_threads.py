"""Calls of SQLite in a worker thread, awaited: if the caller is cancelled, they end first."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from dbscope.aio import threads
from dbscope.sqlite_inline.lifetime import AGAIN

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

T = TypeVar("T")


async def to_the_end(call: Callable[[], T]) -> T:
    """Call in a thread and wait for that; a cancellation is delivered afterwards."""
    work = _start(call)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await _outlast(work)
        raise


async def interruptible(
    call: Callable[[], T], connection: sqlite3.Connection, deadline: float = inf
) -> T:
    """Call in a thread; interrupt the connection if the caller is cancelled or the time is up.

    When it was cancelled, what was begun is rolled back: else whoever comes next would be in the
    middle of it.

    Args:
        call: uses the connection.
        connection: what is interrupted.
        deadline: of the clock `monotonic`.
    """
    work = _start(call)
    try:
        if deadline < inf:
            await asyncio.wait({work}, timeout=max(0.0, deadline - monotonic()))
            if await _outlast(work, connection):
                raise asyncio.CancelledError
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await _outlast(work, connection)
        if connection.in_transaction:
            await _outlast(_start(connection.rollback))
        raise


def _start(call: Callable[[], T]) -> asyncio.Future[T]:
    return asyncio.get_running_loop().run_in_executor(threads.threads(), call)


async def _outlast(work: asyncio.Future[Any], connection: sqlite3.Connection | None = None) -> bool:
    """Wait for the work, interrupting this connection until it has ended.

    Returns:
        Whether the caller was cancelled meanwhile.
    """
    was_cancelled = False
    with anyio.CancelScope(shield=True):
        while not work.done():
            if connection is not None:
                connection.interrupt()
            try:
                await asyncio.wait({work}, timeout=None if connection is None else AGAIN)
            except asyncio.CancelledError:
                was_cancelled = True
    with suppress(BaseException):
        work.exception()  # has been looked at
    return was_cancelled
