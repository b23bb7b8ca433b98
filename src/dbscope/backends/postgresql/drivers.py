"""The drivers of PostgreSQL: what they know about a connection without asking the server."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dbscope.backends import sockets
from dbscope.backends.driver import ConnectionStatus, Driver

if TYPE_CHECKING:
    from sqlalchemy import Connection

# libpq, PQtransactionStatus: PQTRANS_IDLE, PQTRANS_INERROR
IDLE = 0
INERROR = 3
FATAL = frozenset({"FATAL", "PANIC"})
PLAIN_FUTURES = (3, 3, 6)  # before, psycopg waits in `asyncio.wait_for`


class Psycopg(Driver):
    """psycopg, which waits for its socket in whichever loop runs."""

    polled = True
    bound_to_loop = False
    says_goodbye = True
    resets_session = True
    package = "psycopg"
    statement_cache = "psycopg, which prepares what it has seen five times, prepares none of them"

    @cached_property
    def futures_only(self) -> bool:
        """Tell it by the version."""
        import psycopg

        numbers = re.findall(r"\d+", psycopg.__version__)
        return tuple(map(int, numbers[:3])) >= PLAIN_FUTURES

    def status(self, connection: Any) -> ConnectionStatus:
        """Look at libpq's transaction status."""
        driver = getattr(connection, "driver_connection", connection)
        if driver.closed:
            return ConnectionStatus.CLOSED
        status = driver.pgconn.transaction_status
        if status == IDLE:
            return ConnectionStatus.IDLE
        failed = status == INERROR
        return ConnectionStatus.IN_ERROR if failed else ConnectionStatus.IN_TRANSACTION

    def read_goodbye(self, connection: Connection, dbapi: Any) -> str:
        """Let libpq read it: a notice, which may be the last word."""
        import psycopg

        last: list[str] = []

        def hear(notice: Any) -> None:  # which is gone afterwards
            if notice.severity_nonlocalized in FATAL:
                last.append(notice.message_primary)

        client = getattr(dbapi, "driver_connection", dbapi)
        client.add_notice_handler(hear)
        try:
            while not last and self._has_more(connection, dbapi):
                client.pgconn.consume_input()
                client.pgconn.is_busy()
        except psycopg.Error as error:
            return str(error)
        finally:
            client.remove_notice_handler(hear)
        is_closed = self.status(dbapi) is ConnectionStatus.CLOSED
        return last[0] if last else "by the server" if is_closed else ""

    def _has_more(self, connection: Connection, dbapi: Any) -> bool:
        is_closed = self.status(dbapi) is ConnectionStatus.CLOSED
        return not is_closed and sockets.has_unread_bytes(dbapi, connection.info)

    def hang_up(self, driver: Any) -> None:
        """Let libpq close the socket."""
        driver.pgconn.finish()


class Asyncpg(Driver):
    """asyncpg, whose connections have a transport of the loop that they were made in."""

    says_goodbye = True
    resets_session = True
    statement_cache = "asyncpg, which prepares each text once, needs a round trip more for each"

    @cached_property
    def futures_only(self) -> bool:
        """It does."""
        return True

    def status(self, connection: Any) -> ConnectionStatus:
        """Look at its protocol, and at the transaction object that it nests others in."""
        driver = connection.driver_connection
        status = self.transaction_status(connection)
        if status is ConnectionStatus.IDLE and getattr(driver, "_top_xact", None) is not None:
            return ConnectionStatus.IN_TRANSACTION
        return status

    def transaction_status(self, connection: Any) -> ConnectionStatus:
        """Look at its protocol; its transaction object may believe what is over."""
        driver = connection.driver_connection
        if driver.is_closed():
            return ConnectionStatus.CLOSED
        is_open = driver.is_in_transaction()
        return ConnectionStatus.IN_TRANSACTION if is_open else ConnectionStatus.IDLE

    def read_goodbye(self, connection: Connection, dbapi: Any) -> str:
        """Let the event loop read it."""
        return sockets.read_on_loop(connection, dbapi, self.transaction_status)

    def hang_up(self, driver: Any) -> None:
        """Close the socket; else it would complain when it is collected."""
        driver._aborted = True  # noqa: SLF001
        sockets.close_transport(getattr(driver, "_transport", None))


DRIVERS: dict[str, Driver] = {
    "psycopg": Psycopg(),
    "psycopg_async": Psycopg(),
    "asyncpg": Asyncpg(),
}
