"""Why psycopg was not let in.

libpq keeps the words of that error, which are in the server's language, and not its SQLSTATE. So
the login is tried once more, while libpq writes down what the server says
(https://www.postgresql.org/docs/current/libpq-control.html#LIBPQ-PQTRACE).
"""

from __future__ import annotations

import re
import select
import tempfile
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

PATIENCE = 2.0  # seconds
STATE = re.compile(rb'\tB\t\d+\tErrorResponse\t.*?\bC "(\w{5})"')
NO_PASSWORD = "28P01"  # noqa: S105  (it is the code for a wrong one)


def is_psycopg(error: BaseException) -> bool:
    """Tell whether this is psycopg's error of a connection that the server has refused."""
    return getattr(getattr(error, "pgconn", None), "info", None) is not None


def state_of(error: Any) -> str | None:
    """Return the SQLSTATE of an error of connecting; None: nobody was there, or it is over now.

    Args:
        error: psycopg's; it knows how it was to connect.
    """
    if error.pgconn.needs_password:
        return NO_PASSWORD
    conninfo = b" ".join(
        option.keyword + b"=" + quoted(option.val)
        for option in error.pgconn.info
        if option.val and option.val != option.compiled
    )
    with suppress(Exception), tempfile.TemporaryFile() as file:  # not everywhere can libpq do it
        return traced(conninfo, file)
    return None


def quoted(value: bytes) -> bytes:
    """Return a value as libpq reads it in a connection string."""
    escaped = value.replace(b"\\", b"\\\\").replace(b"'", b"\\'")
    return b"'" + escaped + b"'"


def traced(conninfo: bytes, file: BinaryIO) -> str | None:
    """Log in, and return the SQLSTATE with which that ended."""
    from psycopg import pq

    connection: PGconn = pq.PGconn.connect_start(conninfo)
    with closing(Finished(connection)):
        connection.trace(file.fileno())
        wait_for(connection, time.monotonic() + PATIENCE)
        connection.untrace()
    file.seek(0)
    found = STATE.findall(file.read())
    return found[-1].decode() if found else None


class Finished:
    """What closes a connection of libpq's."""

    def __init__(self, connection: PGconn) -> None:
        self.close = connection.finish


def wait_for(connection: PGconn, deadline: float) -> None:
    """Wait until the connection is there, or is refused."""
    from psycopg.pq import PollingStatus

    wanted = {PollingStatus.READING: select.POLLIN, PollingStatus.WRITING: select.POLLOUT}
    while (status := connection.connect_poll()) in wanted and time.monotonic() < deadline:
        poll = select.poll()
        poll.register(connection.socket, wanted[PollingStatus(status)])
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
