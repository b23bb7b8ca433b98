"""A look at each connection when it leaves the pool and when it comes back; no round trip.

SQLAlchemy resets a connection by what its adapter believes. When two tasks end one transaction,
or a cleanup runs in another task than the query, asyncpg's adapter forgets the transaction and the
pool takes the connection back in the middle of it, for ever
(https://github.com/sqlalchemy/sqlalchemy/issues/13381). The driver itself knows better.
"""

from __future__ import annotations

import select
import sqlite3
import weakref
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

from dbscope.errors import DatabaseUnavailable
from dbscope.watch.events import ConnectionDiscarded

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from dbscope.watch.dispatch import Events


class Local(Enum):
    """What a driver knows about its connection without asking the server."""

    IDLE = "idle"
    IN_TRANSACTION = "in a transaction"
    IN_ERROR = "in a failed transaction"
    CLOSED = "closed"


Look = Callable[[Any], Local]


def look_sqlite(connection: Any) -> Local:
    """Look at sqlite3, or at what is around it."""
    driver = getattr(connection, "driver_connection", connection)
    life = getattr(getattr(driver, "_connection", driver), "life", None)  # aiosqlite has a thread
    if life is not None and life.is_over:
        return Local.CLOSED  # maybe a moment later
    try:
        return Local.IN_TRANSACTION if driver.in_transaction else Local.IDLE
    except (ValueError, sqlite3.ProgrammingError):  # aiosqlite: "no active connection"
        return Local.CLOSED


def look_asyncpg(connection: Any) -> Local:
    """Look at asyncpg: its protocol, and the transaction object that it nests others in."""
    driver = connection.driver_connection
    if driver.is_closed():
        return Local.CLOSED
    if driver.is_in_transaction() or getattr(driver, "_top_xact", None) is not None:
        return Local.IN_TRANSACTION
    return Local.IDLE


def look_psycopg(connection: Any) -> Local:
    """Look at psycopg: libpq's transaction status."""
    driver = getattr(connection, "driver_connection", connection)
    if driver.closed:
        return Local.CLOSED
    status = driver.pgconn.transaction_status
    if status == PSYCOPG_IDLE:
        return Local.IDLE
    return Local.IN_ERROR if status == PSYCOPG_INERROR else Local.IN_TRANSACTION


# libpq, PQtransactionStatus: PQTRANS_IDLE, PQTRANS_INERROR
PSYCOPG_IDLE = 0
PSYCOPG_INERROR = 3


# The server's status, sent with each success: SERVER_STATUS_IN_TRANS
MYSQL_IN_TRANSACTION = 1


def look_pymysql(connection: Any) -> Local:
    """Look at PyMySQL, which keeps the status that came last, but not the one after rows."""
    if not connection.open:
        return Local.CLOSED
    is_open = connection.server_status & MYSQL_IN_TRANSACTION
    return Local.IN_TRANSACTION if is_open else Local.IDLE


def look_asyncmy(connection: Any) -> Local:
    """Look at asyncmy, which keeps the status that came last, but no status of 0."""
    driver = connection.driver_connection
    if not driver.connected or driver._stream_broken:  # noqa: SLF001
        return Local.CLOSED
    status, last = driver.server_status, driver._result  # noqa: SLF001
    if last is not None and (driver._deprecate_eof or not last.field_count):  # noqa: SLF001
        status = last.server_status
    return Local.IN_TRANSACTION if status & MYSQL_IN_TRANSACTION else Local.IDLE


def look_anything(connection: Any) -> Local:  # noqa: ARG001
    """Know nothing about a driver that has no entry here."""
    return Local.IDLE


LOOKS: dict[str, Look] = {
    "pysqlite": look_sqlite,
    "aiosqlite": look_sqlite,
    "inline": look_sqlite,
    "asyncpg": look_asyncpg,
    "psycopg": look_psycopg,
    "psycopg_async": look_psycopg,
    "pymysql": look_pymysql,
    "asyncmy": look_asyncmy,
}

POLLED = frozenset({"psycopg", "psycopg_async", "pymysql"})


def has_unread_bytes(connection: Any, info: dict[str, Any]) -> bool:
    """Tell whether an idle connection has something to read: it was told goodbye.

    psycopg and PyMySQL learn that the server has closed a connection only by reading, and an idle
    one is not read; the transports of asyncpg and asyncmy are watched by the loop.
    """
    poll = info.get("dbscope.poll")
    if poll is None:
        driver = getattr(connection, "driver_connection", connection)
        socket = getattr(driver, "_sock", driver)  # PyMySQL's
        if (transport := getattr(driver, "_transport", None)) is not None:
            socket = transport.get_extra_info("socket")
        poll = info["dbscope.poll"] = select.poll()
        poll.register(socket.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def look_of(engine: Engine) -> Look:
    """Return the look for the driver of this engine."""
    return LOOKS.get(engine.dialect.driver, look_anything)


def keep_first_error(engine: Engine) -> None:
    """Let what ends the first connection be told: it is dropped, and needs no ROLLBACK.

    Before 2.1, SQLAlchemy sends one, and its failure replaces a cancellation
    (https://github.com/sqlalchemy/sqlalchemy/blob/rel_2_0_41/lib/sqlalchemy/engine/create.py#L732).
    """
    initialize = engine.dialect.initialize

    def initialize_or_drop(connection: Connection) -> None:
        try:
            initialize(connection)
        except BaseException:
            if not (connection.closed or connection.invalidated):
                connection.invalidate()
            raise

    engine.dialect.initialize = initialize_or_drop  # type: ignore[method-assign]


def install(engine: Engine, events: Events) -> None:
    """Watch over the pool of an engine: once for its life."""
    keep_first_error(engine)
    look = look_of(engine)
    polled = engine.dialect.driver in POLLED and hasattr(select, "poll")

    @event.listens_for(engine, "checkout")
    def on_checkout(connection: Any, record: Any, proxy: Any) -> None:
        state = look(connection)
        if state is not Local.IDLE or (polled and has_unread_bytes(connection, record.info)):
            events.tell(ConnectionDiscarded, None, "")
            refused = record.record_info.get("dbscope.refused")
            if refused is not None and refused() is proxy:
                # SQLAlchemy gives up here, by an error that does not say why.
                raise DatabaseUnavailable("A connection was lost as soon as it was made.")
            record.record_info["dbscope.refused"] = weakref.ref(proxy)
            raise DisconnectionError(f"found {state.value} in the pool")

    @event.listens_for(engine, "reset")
    def on_reset(connection: Any, record: Any, state: Any) -> None:
        if record is None:  # it was detached from the pool, and is its owner's
            return
        info = record.info
        unit = info.pop("dbscope.unit", None)
        info.pop("dbscope.begin", None)
        found = look(connection)
        if found is Local.IDLE:
            return
        events.tell(ConnectionDiscarded, unit, found.value)
        if found is not Local.CLOSED and state.asyncio_safe:
            engine.dialect.do_rollback(connection)
        # An error here makes SQLAlchemy invalidate the connection.
        raise DisconnectionError(f"came back {found.value}")
