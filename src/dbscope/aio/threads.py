"""Worker threads of ours, and the event loop that runs in a thread."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import cache, partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from dbscope.aio import stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS = 1000

_changes: set[asyncio.Task[None]] = set()


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


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread; None if there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
