"""The drivers of MySQL and MariaDB: what they know about a connection without asking the server."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dbscope.backends import sockets
from dbscope.backends.driver import ConnectionStatus, Driver

if TYPE_CHECKING:
    from sqlalchemy import Connection

# The server's status, sent with each success: SERVER_STATUS_IN_TRANS
IN_TRANSACTION = 1


class PyMySQL(Driver):
    """PyMySQL, which keeps the status that came last, but not the one after rows."""

    polled = True
    says_goodbye = True
    resets_session = True
    package = "PyMySQL"

    def status(self, connection: Any) -> ConnectionStatus:
        """Look at that status."""
        if not connection.open:
            return ConnectionStatus.CLOSED
        return status_of(connection.server_status)

    def read_goodbye(self, connection: Connection, dbapi: Any) -> str:  # noqa: ARG002
        """Return that there is something, which can be nothing else."""
        return "by the server"


class Asyncmy(Driver):
    """asyncmy, which keeps the status that came last, but no status of 0."""

    says_goodbye = True
    resets_session = True

    def status(self, connection: Any) -> ConnectionStatus:
        """Look at that status, or at the one of the last result."""
        driver = connection.driver_connection
        if not driver.connected or driver._stream_broken:  # noqa: SLF001
            return ConnectionStatus.CLOSED
        status, last = driver.server_status, driver._result  # noqa: SLF001
        if last is not None and (driver._deprecate_eof or not last.field_count):  # noqa: SLF001
            status = last.server_status
        return status_of(status)

    def read_goodbye(self, connection: Connection, dbapi: Any) -> str:
        """Let the event loop read it."""
        return sockets.read_on_loop(connection, dbapi, self.status)

    def hang_up(self, driver: Any) -> None:
        """Close the socket; else it would complain when it is collected."""
        writer = getattr(driver, "_writer", None)
        transport = getattr(driver, "_transport", None) or getattr(writer, "transport", None)
        with suppress(AttributeError, TypeError):
            driver._writer = None  # noqa: SLF001
        sockets.close_transport(transport)


def status_of(flags: int) -> ConnectionStatus:
    """Return what the server's flags say."""
    is_open = flags & IN_TRANSACTION
    return ConnectionStatus.IN_TRANSACTION if is_open else ConnectionStatus.IDLE


DRIVERS: dict[str, Driver] = {"pymysql": PyMySQL(), "asyncmy": Asyncmy()}
