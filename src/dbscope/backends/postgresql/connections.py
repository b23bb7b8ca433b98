"""PostgreSQL: connections that end, and end their query, though nobody waits for it any more."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.util import await_only

from dbscope.aio import shield
from dbscope.backends.postgresql import asyncpg

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

CANCEL_TIMEOUT = 1.0  # seconds


def engine_options(driver: str) -> dict[str, Any]:
    """Return what `create_async_engine` needs for a driver."""
    is_psycopg = driver == "psycopg"
    return {"connect_args": {"async_creator_fn": _connect_psycopg}} if is_psycopg else {}


async def _connect_psycopg(*args: Any, **kwargs: Any) -> Any:
    from dbscope.backends.postgresql.psycopg import AsyncConnection

    return await AsyncConnection.connect(*args, **kwargs)


def install(engine: Engine) -> None:
    """Read the answer to COMMIT where the driver does not: once for the life of an engine."""
    if engine.dialect.driver != "asyncpg":
        return
    from dbscope.backends.postgresql import asyncpg_tls

    asyncpg_tls.install()

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:  # noqa: ARG001
        asyncpg.read_answer(connection.driver_connection)


def interrupt(connection: Connection) -> None:
    """Let asyncpg ask the server to stop what a cancelled task has left running.

    It asks in a task of its own, which would be ended together with the connection; psycopg asks
    by itself.
    """
    driver: Any = connection.connection.driver_connection
    asking = set(getattr(driver, "_cancellations", ()))
    if asking:
        work = asyncio.wait(asking, timeout=CANCEL_TIMEOUT)
        with suppress(asyncio.CancelledError):  # one is under way already
            await_only(shield.to_the_end(work, limit=CANCEL_TIMEOUT))
        if not all(task.done() for task in asking):
            driver.terminate()  # nobody is there, so nobody would hear a goodbye either
