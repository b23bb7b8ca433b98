"""NOTIFY and LISTEN: a sender tells with its COMMIT, and who listens hears of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sqlalchemy import func

from dbscope.backends.postgresql import simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from sqlalchemy import Insert

AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}


def notifying(insert: Insert, channel: str) -> Any:
    """Return an INSERT by which who listens is told, when it is committed."""
    sent: Any = insert
    return sent.returning(*sent.table.primary_key.columns, func.pg_notify(channel, ""))


class Listener:
    """The one who hears, on a connection that nobody else shall hear it on afterwards.

    Args:
        engine: gives the connection.
        channel: that is told by.
    """

    def __init__(self, engine: Any, channel: str) -> None:
        self.engine = engine
        self.channel = channel

    async def hear(self, ring: Callable[[], None]) -> None:
        """Call the function whenever somebody tells something, until the connection is closed."""
        async with self.engine.connect() as connection:
            await connection.execution_options(**AUTOCOMMIT)
            driver = (await connection.get_raw_connection()).driver_connection
            try:
                if simple.is_asyncpg(driver):
                    await self._hear_asyncpg(driver, ring)
                else:
                    await connection.exec_driver_sql(f"LISTEN {self.channel}")
                    ring()  # something may have come before
                    async for _ in driver.notifies():
                        ring()
            finally:
                await connection.invalidate()

    async def _hear_asyncpg(self, driver: Any, ring: Callable[[], None]) -> None:
        """Let asyncpg listen; what comes while nobody has asked it to, it forgets."""
        closed = asyncio.Event()

        def end(*_: object) -> None:
            closed.set()

        def hear(*_: object) -> None:
            ring()

        driver.add_termination_listener(end)
        await driver.add_listener(self.channel, hear)
        ring()
        await closed.wait()

    def hear_in_thread(self, ring: Callable[[], None], stopped: Event, pause: float) -> None:
        """Do the same by psycopg in a thread, until it is to stop."""
        with self.engine.connect() as connection:
            connection.execution_options(**AUTOCOMMIT)
            connection.exec_driver_sql(f"LISTEN {self.channel}")
            driver = connection.connection.driver_connection
            try:
                ring()
                while not stopped.is_set():
                    for _ in driver.notifies(timeout=pause):
                        ring()
            finally:
                connection.invalidate()
