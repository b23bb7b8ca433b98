"""MySQL and MariaDB: transactions that the server ends by itself.

Their drivers know of a transaction by the flag that the server sends with each success; with an
error it sends none, so then it is asked. PyMySQL drops the flag that comes with rows.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from dbscope.backends import conflicts, errors
from dbscope.backends.base import unit_of
from dbscope.backends.driver import ConnectionStatus
from dbscope.backends.mysql import kill, packets, rest, session
from dbscope.backends.registry import driver_of
from dbscope.errors import ImplicitCommit
from dbscope.watch.events import Committed

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.pool import PoolResetState

    from dbscope.unit.unit import Unit

    Status = Callable[[Any], ConnectionStatus]

logger = logging.getLogger("dbscope")

# What begins otherwise may commit (MariaDB, "SQL statements that cause an implicit commit").
NEVER_COMMIT = ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "(")


def install(engine: Engine) -> None:
    """Listen to an engine, before all others do: once for its life."""
    status = driver_of(engine.dialect).status

    @event.listens_for(engine, "do_connect")
    def on_connecting(dialect: Any, record: Any, args: Any, kwargs: Any) -> None:  # noqa: ARG001
        if record is not None:
            record.info[kill.CONNECT] = (args, kwargs)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        transport = getattr(getattr(connection, "driver_connection", None), "_transport", None)
        if transport is not None:
            record.info["dbscope.address"] = transport.get_extra_info("sockname")
        packets.ask(engine.dialect, connection)

    @event.listens_for(engine, "reset")
    def on_reset(connection: Any, record: Any, state: PoolResetState) -> None:
        # Not a unit's, so it is not known to be over; with PyMySQL even the look cannot tell.
        if record.info.get(session.LIMITED) and state.asyncio_safe:
            connection.cursor().execute(session.limit(record.info, engine.dialect, None))
        is_over = state.transaction_was_reset or "dbscope.unit" in record.info
        if not is_over and state.asyncio_safe and status(connection) is not ConnectionStatus.CLOSED:
            rest.roll_back(engine.dialect, engine.dialect.do_rollback, connection, record)

    _watch(engine, status)


def _watch(engine: Engine, status: Status) -> None:
    """See when the server ends a transaction by itself, by a statement or by its failure."""

    @event.listens_for(engine, "do_execute")
    def on_execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        connection: Connection = context.root_connection
        driver = connection.connection.dbapi_connection
        was_open = status(driver) is ConnectionStatus.IN_TRANSACTION
        engine.dialect.do_execute(cursor, statement, parameters, context)
        # Until a result in pieces is read, the driver does not know; no SELECT ends a transaction.
        is_unread = context._is_server_side and cursor.description is not None  # noqa: SLF001
        if is_unread:
            rest.read(context, statement)
        elif was_open and status(driver) is ConnectionStatus.IDLE:
            _refuse(connection, statement)
        return True

    @event.listens_for(engine, "handle_error")
    def on_error(context: ExceptionContext) -> None:
        connection, error = context.connection, context.original_exception
        if connection is None or connection.closed or connection.invalidated:
            return
        if packets.is_too_large(context):
            packets.give_up(context)
        elif errors.is_gone(error):
            context.is_disconnect = True
        elif context.statement is not None and context.sqlalchemy_exception is not None:
            _on_failed(connection, context, status)


def _refuse(connection: Connection, statement: str) -> None:
    unit = unit_of(connection)
    if unit is None:
        return
    error = ImplicitCommit(f"{_verb(statement)} in {unit.scope}:")
    _end(unit, connection, error)
    raise error


def _on_failed(connection: Connection, context: ExceptionContext, status: Status) -> None:
    """Ask whether the transaction is still there, after a statement failed in it."""
    unit = unit_of(connection)
    error: Any = context.sqlalchemy_exception
    is_deadlock = errors.native_code(context.original_exception) == conflicts.DEADLOCK
    driver: Any = connection.connection.dbapi_connection
    if unit is None or not (is_deadlock or status(driver) is ConnectionStatus.IN_TRANSACTION):
        return
    try:
        if not is_deadlock and _is_still_open(driver, status):
            return
        verb = _verb(context.statement or "")
        if not is_deadlock and not verb.startswith(NEVER_COMMIT):
            fault = ImplicitCommit(f"{verb} in {unit.scope}:")
            fault.__cause__ = error
            error.add_note(str(fault))
            error = fault
        _end(unit, connection, error)
    except connection.dialect.loaded_dbapi.Error:
        context.is_disconnect = True


def _is_still_open(driver: Any, status: Status) -> bool:
    driver.ping(False)
    return status(driver) is ConnectionStatus.IN_TRANSACTION


def _end(unit: Unit, connection: Connection, error: BaseException) -> None:
    """Note that the server has ended the whole transaction, savepoints and all."""
    unit.break_all(error)
    if isinstance(error, ImplicitCommit):
        unit.forget_hooks()
        unit.source.events.tell(Committed, unit, False)
    connection.dialect.do_rollback(connection.connection)  # brings a flag, too
    transaction = connection.get_transaction()
    if transaction is not None:
        transaction.is_active = False  # no ROLLBACK TO: there is no savepoint any more


def _verb(statement: str) -> str:
    return (statement.split(maxsplit=1) or [""])[0].upper()
