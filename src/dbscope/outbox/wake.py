"""How a relay hears of new messages before it looks again: in this process, or by PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from dbscope.outbox.store import CHANNEL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

logger = logging.getLogger("dbscope")
AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}


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


@asynccontextmanager
async def listening(db: Any, ring: Callable[[], None], poll: float) -> AsyncGenerator[None]:
    """Ring whenever PostgreSQL tells of a message that somebody else has committed.

    It takes a connection; while there is none, the relay only looks from time to time.
    """
    if db.engine.dialect.name != "postgresql":
        yield
        return
    task = asyncio.create_task(_listen(db, ring, poll))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _listen(db: Any, ring: Callable[[], None], poll: float) -> None:
    while True:
        try:
            async with db.engine.connect() as connection:
                await connection.execution_options(**AUTOCOMMIT)
                await connection.exec_driver_sql(f"LISTEN {CHANNEL}")
                driver = (await connection.get_raw_connection()).driver_connection
                try:
                    ring()  # something may have come before
                    await _hear(driver, ring)
                finally:
                    await connection.invalidate()  # nobody else shall hear it
        except Exception as error:
            logger.warning("The relay of %s does not hear of new messages now: %s", db, error)
        await asyncio.sleep(poll)


async def _hear(driver: Any, ring: Callable[[], None]) -> None:
    if hasattr(driver, "notifies"):  # psycopg's
        async for _ in driver.notifies():
            ring()
        return
    closed = asyncio.Event()

    def end(*_: object) -> None:
        closed.set()

    def hear(*_: object) -> None:
        ring()

    driver.add_termination_listener(end)
    await driver.add_listener(CHANNEL, hear)
    await closed.wait()


@contextmanager
def listening_in_thread(db: Any, ring: Callable[[], None], poll: float) -> Generator[None]:
    """Do the same for a relay in a thread, by another thread."""
    if db.engine.dialect.name != "postgresql" or db.engine.dialect.driver != "psycopg":
        yield
        return
    stopped = threading.Event()
    thread = threading.Thread(target=_listen_in_thread, args=(db, ring, poll, stopped), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _listen_in_thread(
    db: Any, ring: Callable[[], None], poll: float, stopped: threading.Event
) -> None:
    while not stopped.is_set():
        try:
            with db.engine.connect() as connection:
                connection.execution_options(**AUTOCOMMIT)
                connection.exec_driver_sql(f"LISTEN {CHANNEL}")
                driver = connection.connection.driver_connection
                try:
                    ring()
                    while not stopped.is_set():
                        for _ in driver.notifies(timeout=min(poll, 0.5)):
                            ring()
                finally:
                    connection.invalidate()
        except Exception as error:
            logger.warning("The relay of %s does not hear of new messages now: %s", db, error)
            stopped.wait(poll)
