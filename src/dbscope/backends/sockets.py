"""The sockets below drivers: looked at, and shut down where a driver cannot do it."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from dbscope.backends.driver import ConnectionStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

TURNS = 10  # of the event loop, until it has told what has come: decrypted, read, closed


def has_unread_bytes(connection: Any, info: dict[str, Any]) -> bool:
    """Tell whether an idle connection has something to read: it was told goodbye.

    psycopg and PyMySQL learn that the server has closed a connection only by reading, and an idle
    one is not read; the transports of asyncpg and asyncmy are watched by the loop.
    """
    poll = info.get("dbscope.poll")
    if poll is None:
        driver = getattr(connection, "driver_connection", connection)
        end = getattr(driver, "_sock", driver)  # PyMySQL's
        if (transport := getattr(driver, "_transport", None)) is not None:
            end = transport.get_extra_info("socket")
        poll = info["dbscope.poll"] = select.poll()
        poll.register(end.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def shut_down(end: Any) -> None:
    """Shut down the socket of this descriptor, which is its owner's to close."""
    with suppress(OSError), socket.socket(fileno=os.dup(end.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)


def read_on_loop(
    connection: Connection, dbapi: Any, status: Callable[[Any], ConnectionStatus]
) -> str:
    """Let the event loop read what has come, and ask whether that was the server's last word.

    It may have been a notice, and of the end of the connection the loop may learn much later.
    """

    async def read_and_ask() -> None:
        for _ in range(TURNS):
            is_closed = status(dbapi) is ConnectionStatus.CLOSED
            if is_closed or not has_unread_bytes(dbapi, connection.info):
                break
            await asyncio.sleep(0)
        client = dbapi.driver_connection
        if hasattr(client, "ping"):
            await client.ping(reconnect=False)
        else:
            await client.execute("")  # asyncpg's: taken in a failed transaction, too

    try:
        await_only(read_and_ask())
    except Exception as error:
        return str(error) or type(error).__name__
    return ""


def close_transport(transport: Any) -> None:
    """Close the socket of a transport whose event loop is closed."""
    sock = getattr(transport, "_sock", None)
    if sock is not None:  # uvloop has closed its own with the loop
        transport._closing = True  # noqa: SLF001
        transport._sock = None  # noqa: SLF001
        sock.close()
