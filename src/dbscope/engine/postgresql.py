"""PostgreSQL: connections that end, and end their query, though nobody waits for it any more."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from dbscope.engine import carry

if TYPE_CHECKING:
    from sqlalchemy import Connection

CANCEL_TIMEOUT = 1.0  # seconds


def engine_options(driver: str) -> dict[str, Any]:
    """Return what `create_async_engine` needs for a driver."""
    connect = {"psycopg": _connect_psycopg, "asyncpg": _connect_asyncpg}.get(driver)
    return {} if connect is None else {"connect_args": {"async_creator_fn": connect}}


async def _connect_psycopg(*args: Any, **kwargs: Any) -> Any:
    from dbscope.engine.psycopg import AsyncConnection

    return await AsyncConnection.connect(*args, **kwargs)


async def _connect_asyncpg(*args: Any, **kwargs: Any) -> Any:
    from dbscope.engine.asyncpg import connect

    return await connect(*args, **kwargs)


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
            await_only(carry.to_the_end(work, limit=CANCEL_TIMEOUT))
        if not all(task.done() for task in asking):
            driver.terminate()  # nobody is there, so nobody would hear a goodbye either
