"""How a relay hears of new messages before it looks again: in this process, or by the server."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from dbscope.outbox.store import CHANNEL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from dbscope.outbox.base import OutboxBase

logger = logging.getLogger("dbscope")
NOT_NOW = "The relay of %s gets no notifications now, and looks for messages from time to time: %s"
PAUSE = 0.5  # seconds at most, until a thread sees that it is to end


class AsyncBell:
    """What a relay on an event loop waits for; anybody may ring it, from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the relay."""
        with suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, and no longer than that."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        self._event.clear()


class Bell:
    """What a relay in a thread waits for."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        """Wake the relay."""
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Wait until it rings, and no longer than that."""
        self._event.wait(seconds)
        self._event.clear()


def notifications_of(outbox: OutboxBase) -> Any:
    """Return who tells a relay of new messages; None: nobody does.

    In a sandbox there is one connection, which nobody may keep.
    """
    if outbox.rests or not outbox.notify:
        return None
    return outbox.db.backend.notifications(outbox.db.engine, CHANNEL)


@asynccontextmanager
async def listening(outbox: OutboxBase, ring: Callable[[], None]) -> AsyncGenerator[None]:
    """Ring whenever the server tells of a message that somebody else has committed.

    It takes a connection; while there is none, the relay only looks from time to time.
    """
    notifications = notifications_of(outbox)
    if notifications is None:
        yield
        return
    task = asyncio.create_task(_listen(outbox.db, notifications, ring, outbox.poll))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _listen(db: Any, notifications: Any, ring: Callable[[], None], poll: float) -> None:
    while True:
        try:
            await notifications.hear(ring)
        except Exception as error:
            logger.warning(NOT_NOW, db, error)
        await asyncio.sleep(poll)


@contextmanager
def listening_in_thread(outbox: OutboxBase, ring: Callable[[], None]) -> Generator[None]:
    """Do the same for a relay in a thread, by another thread."""
    notifications = notifications_of(outbox)
    if notifications is None:
        yield
        return
    stopped = threading.Event()
    arguments = (outbox.db, notifications, ring, outbox.poll, stopped)
    thread = threading.Thread(target=_listen_in_thread, args=arguments, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _listen_in_thread(
    db: Any, notifications: Any, ring: Callable[[], None], poll: float, stopped: threading.Event
) -> None:
    while not stopped.is_set():
        try:
            notifications.hear_in_thread(ring, stopped, min(poll, PAUSE))
        except Exception as error:
            logger.warning(NOT_NOW, db, error)
            stopped.wait(poll)
