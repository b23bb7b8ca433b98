"""The drivers of MySQL and MariaDB: what they know about a connection without asking the server."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dbscope.backends import sockets
from dbscope.backends.driver import ConnectionStatus, Driver

if TYPE_CHECKING:
    from sqlalchemy import Connection

# The server's status, sent with each success: SERVER_STATUS_IN_TRANS, SERVER_STATUS_AUTOCOMMIT
IN_TRANSACTION = 1
AUTOCOMMIT = 2


class PyMySQL(Driver):
    """PyMySQL, which keeps the status that came last, but not the one after rows."""

    polled = True
    says_goodbye = True
    resets_session = True
    package = "PyMySQL"

    def status(self, connection: Any) -> ConnectionStatus:
        """Look at that status; rows change nothing of it, not even those that are to be read."""
        if not connection.open:
            return ConnectionStatus.CLOSED
        return status_of(connection.server_status)

    def commits_by_itself(self, connection: Any) -> bool:
        """Look at that status, too."""
        return bool(connection.server_status & AUTOCOMMIT)

    def read_goodbye(self, connection: Connection, dbapi: Any) -> str:  # noqa: ARG002
        """Return that there is something, which can be nothing else, but for rows."""
        return "" if has_rest(dbapi._result) else "by the server"  # noqa: SLF001


class Asyncmy(Driver):
    """asyncmy, which keeps the status that came last, but no status of 0."""

    says_goodbye = True
    resets_session = True

    def status(self, connection: Any) -> ConnectionStatus:
        """Look at that status, or at the one of the last result."""
        driver = connection.driver_connection
        if not driver.connected or driver._stream_broken:  # noqa: SLF001
            return ConnectionStatus.CLOSED
        return status_of(_flags(driver), driver._result)  # noqa: SLF001

    def commits_by_itself(self, connection: Any) -> bool:
        """Look at that status, too."""
        return bool(_flags(connection.driver_connection) & AUTOCOMMIT)

    def read_goodbye(self, connection: Connection, dbapi: Any) -> str:
        """Let the event loop read it, unless it is rows."""
        if has_rest(dbapi.driver_connection._result):  # noqa: SLF001
            return ""
        return sockets.read_on_loop(connection, dbapi, self.status)

    def hang_up(self, driver: Any) -> None:
        """Close the socket; else it would complain when it is collected."""
        writer = getattr(driver, "_writer", None)
        transport = getattr(driver, "_transport", None) or getattr(writer, "transport", None)
        with suppress(AttributeError, TypeError):
            driver._writer = None  # noqa: SLF001
        sockets.close_transport(transport)


def _flags(driver: Any) -> int:
    last = driver._result  # noqa: SLF001
    if last is not None and (driver._deprecate_eof or not last.field_count):  # noqa: SLF001
        return last.server_status  # type: ignore[no-any-return]
    return driver.server_status  # type: ignore[no-any-return]


def has_rest(result: Any) -> bool:
    """Tell whether rows of the last result are still to be read, as all else has to wait for."""
    return result is not None and bool(result.unbuffered_active)


def status_of(flags: int, result: Any = None) -> ConnectionStatus:
    """Return what the server's flags say; they come behind the last row."""
    is_open = flags & IN_TRANSACTION or has_rest(result)
    return ConnectionStatus.IN_TRANSACTION if is_open else ConnectionStatus.IDLE


DRIVERS: dict[str, Driver] = {"pymysql": PyMySQL(), "asyncmy": Asyncmy()}
