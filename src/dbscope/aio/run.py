"""Plain code over an async driver, with an event loop that runs only while the driver waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


def carried(function: Callable[[], T]) -> T:
    """Call a plain function whose SQL goes through an async driver, and wait for it.

    Unlike `run_sync` it leaves no loop running while the function reads files and imports
    modules: nothing here blocks a loop, and nobody's watchdog believes so.
    """
    if not _loop_runs_here():
        return _drive(function)
    with ThreadPoolExecutor(1, thread_name_prefix="dbscope-migrate") as thread:
        return thread.submit(copy_context().run, _drive, function).result()


def _loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _drive(function: Callable[[], T]) -> T:
    from greenlet import getcurrent, greenlet

    class Carried(greenlet):  # type: ignore[misc]
        # By this SQLAlchemy's drivers know that whoever is the parent awaits for them.
        __sqlalchemy_greenlet_provider__ = True

    # psycopg cannot use the loop that Windows would choose; all drivers can use this one.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        asyncio.set_event_loop(runner.get_loop())  # aiosqlite's adapter looks for it
        try:
            work: Any = Carried(function)
            work.gr_context = getcurrent().gr_context  # what the caller has set is set for it, too
            result = work.switch()
            while not work.dead:
                try:
                    answer = runner.run(_await(result))
                except BaseException as error:
                    result = work.throw(error)
                else:
                    result = work.switch(answer)
        finally:
            asyncio.set_event_loop(None)
    return result  # type: ignore[no-any-return]


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
