"""Queries of MySQL and MariaDB that nobody waits for any more: the server is told to end them."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from contextlib import closing, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from dbscope.aio import shield
from dbscope.backends import base, errors, sockets

if TYPE_CHECKING:
    from sqlalchemy import Connection, Dialect, PoolProxiedConnection

logger = logging.getLogger("dbscope")

NO_SUCH_THREAD = 1094
KILL, KILL_QUERY = "KILL", "KILL QUERY"
CONNECT = "dbscope.connect"  # in the info of a connection: how it was made; not of a sandbox's
THREAD = (
    "SELECT 1 FROM information_schema.processlist"
    " WHERE id = %s AND (host = 'localhost' OR host LIKE %s)"
)


def interrupt(connection: Connection) -> None:
    """End what a cancelled task has left running on the server.

    asyncmy closes its socket, which the server does not look at before it has a result to send:
    until then the query goes on, with all locks of its transaction. SQLAlchemy's first questions to
    a server are short, and lock nothing: they are left to end.
    """
    if connection.dialect.is_async and CONNECT in base.info_of(connection):
        _interrupt(connection.connection)


def stop(connection: Connection) -> bool:
    """Let the statement fail that another thread or task is in, by the loss of its connection."""
    cut(connection.dialect, connection.connection)
    return True


def cut(dialect: Dialect, pooled: PoolProxiedConnection) -> None:
    """Let whoever waits for this connection fail, and the server end its transaction."""
    if dialect.is_async:
        _interrupt(pooled)
        return
    driver: Any = pooled.driver_connection  # as long as it is there
    _kill_here(dialect, driver, pooled.info)
    if (end := driver._sock) is not None:  # noqa: SLF001  (its thread has not noticed)
        sockets.shut_down(end)


def end_query(dialect: Dialect, pooled: PoolProxiedConnection) -> None:
    """End what the server sends the rows of; the transaction goes on."""
    if dialect.is_async:
        _interrupt(pooled, KILL_QUERY)
    else:
        _kill_here(dialect, pooled.driver_connection, pooled.info, KILL_QUERY)


def _interrupt(pooled: PoolProxiedConnection, command: str = KILL) -> None:
    driver: Any = pooled.driver_connection
    work = _kill(driver.thread_id(), pooled.info, command)
    with suppress(CancelledError):  # one is under way already, or it took too long
        await_only(shield.to_the_end(work, limit=base.CANCEL_TIMEOUT, at_once=True))


def _kill_here(dialect: Dialect, driver: Any, info: dict[str, Any], command: str = KILL) -> None:
    """Do it in this thread; a lost connection is noticed later."""
    args, kwargs = info[CONNECT]
    try:
        port = driver._sock.getsockname()  # noqa: SLF001
        with closing(dialect.connect(*args, **kwargs)) as other:
            cursor = other.cursor()
            cursor.execute(THREAD, (driver.thread_id(), f"%:{_port({'dbscope.address': port})}"))
            if cursor.fetchone():
                cursor.execute(f"{command} {driver.thread_id():d}")
    except Exception as error:
        _report(error)


async def _kill(thread: int, info: dict[str, Any], command: str = KILL) -> None:
    asyncmy: Any = import_module("asyncmy")
    args, kwargs = info[CONNECT]
    kwargs = {"async_creator_fn": asyncmy.connect} | kwargs
    try:
        other = await kwargs.pop("async_creator_fn")(*args, **kwargs)
        try:
            async with other.cursor() as cursor:
                # Behind a balancer this may be another server, where that number is another's.
                await cursor.execute(THREAD, (thread, f"%:{_port(info)}"))
                if await cursor.fetchone():
                    await cursor.execute(f"{command} {thread:d}")
        finally:
            other.close()
    except Exception as error:
        _report(error)


def _report(error: Exception) -> None:
    if errors.native_code(error) != NO_SUCH_THREAD:  # it has just ended by itself
        logger.warning(
            "A cancelled query could not be killed, and may still run on the server: %r", error
        )


def _port(info: dict[str, Any]) -> str:
    address: Any = info.get("dbscope.address")
    return "" if not address or isinstance(address, str | bytes) else str(address[1])
