"""Worker threads whose event loop was stopped, in a process that ends: nothing may hold it up.

Daphne stops its loop when the first of the requests that it has cancelled is done
(https://github.com/django/daphne/blob/main/daphne/server.py, `kill_all_applications`). The tasks of
the others never end then, so that nobody gives back what threads wait for, and nobody tells anyio's
worker threads that there is no more work. Python waits for them at its exit, without a limit.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_waiting: dict[threading.Thread, Callable[[], object]] = {}


def loop_of(thread: threading.Thread) -> Any:
    """Return the event loop that a thread works for; None: it is not a worker thread of anyio."""
    return getattr(thread, "loop", None)


def is_left(thread: threading.Thread | None = None) -> bool:
    """Tell whether the loop of this worker thread will never turn again.

    Args:
        thread: None: the current one.
    """
    if threading.main_thread().is_alive():
        return False
    loop = loop_of(thread or threading.current_thread())
    return loop is not None and not loop.is_running()


@contextmanager
def woken_by(wake: Callable[[], object]) -> Generator[None, None, None]:
    """While this thread waits: what makes it look whether it `is_left`."""
    thread = threading.current_thread()
    if loop_of(thread) is None:
        yield
        return
    watch()
    _waiting[thread] = wake
    try:
        yield
    finally:
        del _waiting[thread]


@cache
def watch() -> threading.Thread:
    """Wait for the end of the main thread, as Python itself waits for all others from then on."""
    watching = threading.Thread(target=_let_go, name="dbscope-exit", daemon=True)
    watching.start()
    return watching


def _let_go() -> None:
    threading.main_thread().join()
    for thread, wake in list(_waiting.items()):
        if is_left(thread):
            wake()
    for thread in threading.enumerate():
        if is_left(thread):
            _end(thread)


def _end(thread: Any) -> None:
    """Let a worker thread of anyio end after what it does now, as the end of its task would."""
    thread.stop()


def forget_watch() -> None:
    """Start anew in a forked child, where no other thread lives."""
    watch.cache_clear()
    _waiting.clear()
