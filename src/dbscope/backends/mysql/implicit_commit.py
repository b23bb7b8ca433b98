"""MySQL and MariaDB: transactions that the server ends by itself, queries that it does not end.

Their drivers know of a transaction by the flag that the server sends with each success; with an
error it sends none, so then it is asked. PyMySQL drops the flag that comes with rows.
"""

from __future__ import annotations

import logging
from asyncio import CancelledError
from contextlib import closing, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.util import await_only

from dbscope.aio import shield
from dbscope.backends import errors
from dbscope.backends.mysql import packets
from dbscope.engine import guard
from dbscope.errors import ImplicitCommit

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.pool import PoolResetState

    from dbscope.unit.unit import Unit

logger = logging.getLogger("dbscope")

CANCEL_TIMEOUT = 1.0  # seconds
BACKENDS = frozenset({"mysql", "mariadb"})
# What begins otherwise may commit (MariaDB, "SQL statements that cause an implicit commit").
NEVER_COMMIT = ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "(")
NO_SUCH_THREAD = 1094
THREAD = (
    "SELECT 1 FROM information_schema.processlist"
    " WHERE id = %s AND (host = 'localhost' OR host LIKE %s)"
)


LIMITED = "dbscope.limited"


def limit(info: dict[str, Any], dialect: Any, milliseconds: int | None) -> str:
    """Return the statement that limits the time of those that follow; None: as it was before.

    It does not end with the transaction, and the application may have set a limit of its own.
    https://mariadb.com/docs/server/ha-and-performance/optimization-and-tuning/query-optimizations/query-limits-and-timeouts
    """
    name = "max_statement_time" if dialect.is_mariadb else "max_execution_time"
    was_limited, info[LIMITED] = info.get(LIMITED), milliseconds is not None
    if milliseconds is None:
        return f"SET SESSION {name} = @dbscope_limit"
    note = "" if was_limited else f"@dbscope_limit = @@SESSION.{name}, "
    value = milliseconds / 1000 if dialect.is_mariadb else milliseconds
    return f"SET {note}SESSION {name} = {value}"


def refuse_writes(connection: Any, record: Any) -> None:  # noqa: ARG001
    """Make a new connection one whose transactions cannot write."""
    cursor = connection.cursor()
    cursor.execute("SET SESSION TRANSACTION READ ONLY")
    cursor.close()


def install(engine: Engine) -> None:
    """Listen to an engine, before all others do: once for its life."""
    look = guard.look_of(engine)

    @event.listens_for(engine, "do_connect")
    def on_connecting(dialect: Any, record: Any, args: Any, kwargs: Any) -> None:  # noqa: ARG001
        if record is not None:
            record.info["dbscope.connect"] = (args, kwargs)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        transport = getattr(getattr(connection, "driver_connection", None), "_transport", None)
        if transport is not None:
            record.info["dbscope.address"] = transport.get_extra_info("sockname")
        packets.ask(engine.dialect, connection)

    @event.listens_for(engine, "reset")
    def on_reset(connection: Any, record: Any, state: PoolResetState) -> None:
        # Not a unit's, so it is not known to be over; with PyMySQL even the look cannot tell.
        if record.info.get(LIMITED) and state.asyncio_safe:
            connection.cursor().execute(limit(record.info, engine.dialect, None))
        is_over = state.transaction_was_reset or "dbscope.unit" in record.info
        if not is_over and state.asyncio_safe and look(connection) is not guard.Local.CLOSED:
            engine.dialect.do_rollback(connection)

    _watch(engine, look)


def _watch(engine: Engine, look: guard.Look) -> None:
    """See when the server ends a transaction by itself, by a statement or by its failure."""

    @event.listens_for(engine, "do_execute")
    def on_execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        connection: Connection = context.root_connection
        driver = connection.connection.dbapi_connection
        was_open = look(driver) is guard.Local.IN_TRANSACTION
        engine.dialect.do_execute(cursor, statement, parameters, context)
        # Until a result in pieces is read, the driver does not know; no SELECT ends a transaction.
        is_unread = context._is_server_side and cursor.description is not None  # noqa: SLF001
        if was_open and not is_unread and look(driver) is guard.Local.IDLE:
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
            _on_failed(connection, context, look)


def _refuse(connection: Connection, statement: str) -> None:
    unit: Unit | None = connection.info.get("dbscope.unit")
    if unit is None:
        return
    error = ImplicitCommit(f"{_verb(statement)} in {unit.scope}:")
    _end(unit, connection, error)
    raise error


def _on_failed(connection: Connection, context: ExceptionContext, look: guard.Look) -> None:
    """Ask whether the transaction is still there, after a statement failed in it."""
    unit: Unit | None = connection.info.get("dbscope.unit")
    error: Any = context.sqlalchemy_exception
    is_deadlock = errors.native_code(context.original_exception) == errors.DEADLOCK
    driver: Any = connection.connection.dbapi_connection
    if unit is None or not (is_deadlock or look(driver) is guard.Local.IN_TRANSACTION):
        return
    try:
        if not is_deadlock and _is_still_open(driver, look):
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


def _is_still_open(driver: Any, look: guard.Look) -> bool:
    driver.ping(False)
    return look(driver) is guard.Local.IN_TRANSACTION


def _end(unit: Unit, connection: Connection, error: BaseException) -> None:
    """Note that the server has ended the whole transaction, savepoints and all."""
    unit.break_all(error)
    if isinstance(error, ImplicitCommit):
        unit.forget_hooks()
    connection.dialect.do_rollback(connection.connection)  # brings a flag, too
    transaction = connection.get_transaction()
    if transaction is not None:
        transaction.is_active = False  # no ROLLBACK TO: there is no savepoint any more


def _verb(statement: str) -> str:
    return (statement.split(maxsplit=1) or [""])[0].upper()


def refuse_writes_for_now(connection: Connection) -> None:
    """Make the transaction that begins with the next statement one that cannot write."""
    connection.exec_driver_sql("SET TRANSACTION READ ONLY").close()


def is_read_only(connection: Connection) -> bool:
    """Tell whether the transactions of this session cannot write, if nothing else is said."""
    driver: Any = connection.connection.dbapi_connection
    name = "tx_read_only" if connection.dialect.is_mariadb else "transaction_read_only"  # type: ignore[attr-defined]
    try:
        cursor = driver.cursor()
        cursor.execute(f"SELECT @@SESSION.{name}")
        (found,) = cursor.fetchone()
        cursor.close()
    except connection.dialect.loaded_dbapi.Error:
        return True
    return bool(found)


# -- a cancelled task --------------------------------------------------------------------------


def interrupt(connection: Connection) -> None:
    """End what a cancelled task has left running on the server.

    asyncmy closes its socket, which the server does not look at before it has a result to send:
    until then the query goes on, with all locks of its transaction.
    """
    if connection.dialect.is_async:
        thread = connection.connection.driver_connection.thread_id()  # type: ignore[union-attr]
        work = _kill(thread, connection.info)
        with suppress(CancelledError):  # one is under way already, or it took too long
            await_only(shield.to_the_end(work, limit=CANCEL_TIMEOUT, at_once=True))


def kill(connection: Connection) -> None:
    """End what another thread has running on the server; a lost connection is noticed later."""
    args, kwargs = connection.info["dbscope.connect"]
    driver: Any = connection.connection.driver_connection
    try:
        port = driver._sock.getsockname()  # noqa: SLF001
        with closing(connection.dialect.connect(*args, **kwargs)) as other:
            cursor = other.cursor()
            cursor.execute(THREAD, (driver.thread_id(), f"%:{_port({'dbscope.address': port})}"))
            if cursor.fetchone():
                cursor.execute(f"KILL {driver.thread_id():d}")
    except Exception as error:
        _report(error)


async def _kill(thread: int, info: dict[str, Any]) -> None:
    asyncmy: Any = import_module("asyncmy")
    args, kwargs = info["dbscope.connect"]
    kwargs = {"async_creator_fn": asyncmy.connect} | kwargs
    try:
        other = await kwargs.pop("async_creator_fn")(*args, **kwargs)
        try:
            async with other.cursor() as cursor:
                # Behind a balancer this may be another server, where that number is another's.
                await cursor.execute(THREAD, (thread, f"%:{_port(info)}"))
                if await cursor.fetchone():
                    await cursor.execute(f"KILL {thread:d}")
        finally:
            other.close()
    except Exception as error:
        _report(error)


def _report(error: Exception) -> None:
    if errors.native_code(error) != NO_SUCH_THREAD:  # it has just ended by itself
        logger.warning("A query that nobody waits for could not be ended: %r", error)


def _port(info: dict[str, Any]) -> str:
    address: Any = info.get("dbscope.address")
    return "" if not address or isinstance(address, str | bytes) else str(address[1])
