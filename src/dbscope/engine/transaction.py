"""Whether the transaction of a unit is still there, as its driver knows without asking.

Whoever has the driver's connection can end it by a call (`rollback()`, `commit()`, `close()`), and
the server can by closing the connection. What came then would be a transaction of its own, and
COMMIT the success of nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause
from sqlalchemy.util import await_only

from dbscope.engine import guard
from dbscope.engine.guard import Local
from dbscope.engine.sql_text import check_sql
from dbscope.errors import DatabaseUnavailable, TransactionEndedOutside, UnexpectedRollback

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from dbscope.engine.guard import Look
    from dbscope.unit.unit import Unit

TURNS = 10  # of the event loop, until it has told what has come: decrypted, read, closed
WAYS = ("do_execute", "do_executemany", "do_execute_no_params")  # of a dialect, to send a statement
NOTHING: dict[str, Any] = {}
UNIT = "dbscope_unit"  # among the attributes of SQLAlchemy's connection: each statement asks
# PostgreSQL ends an idle transaction, or one that takes too long, before it reads what is sent next
# (idle_in_transaction_session_timeout, transaction_timeout): as an answer to COMMIT it says that
# this was not done.
ENDED_BEFORE = frozenset({"25P03", "25P04"})
FATAL = frozenset({"FATAL", "PANIC"})


def look_of(engine: Engine) -> Look:
    """Return the look that tells what the server has said last about the transaction."""
    look = guard.look_of(engine)
    return look_asyncpg if look is guard.look_asyncpg else look


def look_asyncpg(connection: Any) -> Local:
    """Look at asyncpg's protocol; its transaction object may believe what is over."""
    driver = connection.driver_connection
    if driver.is_closed():
        return Local.CLOSED
    return Local.IN_TRANSACTION if driver.is_in_transaction() else Local.IDLE


# Given a cursor, its connection, what it has raised, and whether it was the first of a unit's.
Renew = Callable[[Any, Any, Exception, bool], bool]


def never(*args: object) -> bool:  # noqa: ARG001
    """Send no statement once more."""
    return False


# -- before each statement ---------------------------------------------------------------------


def install(engine: Engine, renew: Renew = never) -> None:
    """Look whenever a statement is sent: once for the life of an engine.

    Not by SQLAlchemy's events `do_execute`, where the first listener is the last.

    Args:
        engine: whose dialect it is that sends.
        renew: whether a statement that has failed is to be sent once more.
    """
    look = look_of(engine)
    for name in WAYS:
        execute = getattr(engine.dialect, name)
        setattr(engine.dialect, name, partial(send, look, execute, renew))
    dialect: Any = engine.dialect
    dialect.do_commit = partial(send_commit, dialect.do_commit)


def send(look: Look, execute: Callable[..., None], renew: Renew, *args: Any, **kwargs: Any) -> None:
    """Send a statement, unless the transaction that it is to be part of is over.

    Args:
        look: the driver's.
        execute: the dialect's own way to send it.
        renew: see `install`.
        *args: what that is given; the context of the statement comes last.
        **kwargs: the same.
    """
    connection: Any = getattr(args[-1], "root_connection", None)
    unit: Unit | None = getattr(connection, "__dict__", NOTHING).get(UNIT)
    if unit is not None and unit.connection is not connection:
        unit = None
    if unit is not None:  # by few calls: all statements pass here
        check_sent(unit, connection, look, args)
    try:
        execute(*args, **kwargs)
    except Exception as error:
        is_first = unit is not None and not unit.begun
        if connection is None or not renew(args[0], connection, error, is_first):
            raise
        execute(*args, **kwargs)
    if unit is not None and not unit.begun:
        unit.begun = look(connection.connection.dbapi_connection) is Local.IN_TRANSACTION


def check_sent(unit: Unit, connection: Any, look: Look, args: tuple[Any, ...]) -> None:
    """Refuse what would end the transaction, or come after its end.

    Args:
        unit: whose statement it is.
        connection: that it is sent on.
        look: the driver's.
        args: of the dialect: the cursor, the statement, its parameters if any, and the context.
    """
    compiled = args[-1].compiled
    if compiled is None or isinstance(compiled.statement, TextClause):
        check_sql(unit, args[1], unit.source.sql_family)
    if (
        unit.begun
        and look(connection.connection.dbapi_connection) is Local.IDLE
        and not has_failed(unit)
    ):
        raise _ended(unit)


def send_commit(commit: Callable[[Any], None], connection: Any) -> None:
    """Send COMMIT: from now on its outcome is open, until there is an answer.

    Args:
        commit: the dialect's own way to send it.
        connection: of the pool.
    """
    unit: Unit | None = getattr(connection, "info", NOTHING).get("dbscope.unit")
    if unit is not None:
        unit.committing = True
    commit(connection)


def ended(unit: Unit, connection: Connection, look: Look) -> TransactionEndedOutside | None:
    """Return the error for a transaction that was ended on the driver, before ROLLBACK is sent.

    Not if SQLAlchemy has ended it, as it does when a flush fails.
    """
    known = None if unit.session is None else unit.session.get_transaction()
    if not unit.begun or has_failed(unit) or known is None or not known.is_active:
        return None
    is_over = look(connection.connection.dbapi_connection) is Local.IDLE
    return _ended(unit) if is_over else None


def has_failed(unit: Unit) -> bool:
    """Tell whether a statement has failed: some failures end all of a transaction by themselves."""
    return any(block.fault is not None for block in unit.blocks)


def _ended(unit: Unit) -> TransactionEndedOutside:
    """Note that nobody can tell what became of the work, and return the error that says so."""
    error = TransactionEndedOutside(f"In {unit.scope}:")
    unit.break_all(error)
    unit.forget_hooks()
    unit.scope.note_stored()
    return error


# -- before COMMIT -----------------------------------------------------------------------------


def check(unit: Unit, connection: Connection, look: Look) -> None:
    """Raise unless COMMIT would be the end of the transaction of the unit.

    Raises:
        DatabaseUnavailable: the connection is closed, by us or by the server.
        UnexpectedRollback: an error went past SQLAlchemy, so that COMMIT would become ROLLBACK.
        TransactionEndedOutside: there is no transaction any more.
    """
    if connection.invalidated or connection.closed:
        raise not_stored(unit, "was given up")
    driver: Any = connection.connection.dbapi_connection
    state = look(driver)
    if state is not Local.CLOSED and (why := _goodbye(connection, driver, look)):
        _raise_closed(unit, connection, f"was closed ({why})")
    if state is Local.CLOSED:
        _raise_closed(unit, connection, "was closed")
    if state is Local.IN_ERROR:
        raise UnexpectedRollback(f"In {unit.scope}:")
    if state is Local.IDLE and unit.begun:
        raise TransactionEndedOutside(f"In {unit.scope}:")


def _raise_closed(unit: Unit, connection: Connection, how: str) -> None:
    error = not_stored(unit, how)
    connection.invalidate(error)
    raise error


def not_stored(unit: Unit, how: str) -> DatabaseUnavailable:
    """Return the error of a transaction whose connection is gone before COMMIT was sent."""
    error = DatabaseUnavailable(f"The connection of {unit.scope} {how} before COMMIT.")
    error.nothing_was_stored = not unit.scope.stored
    return error


def _goodbye(connection: Connection, driver: Any, look: Look) -> str:
    """Return what the server has said to end the connection, unread so far; "" if nothing.

    An idle connection has nothing to read, but for notices of PostgreSQL.
    """
    read = READERS.get(connection.dialect.driver)
    if read is None or not guard.has_unread_bytes(driver, connection.info):
        return ""
    return read(connection, driver, look)


def _read_pymysql(connection: Connection, driver: Any, look: Look) -> str:  # noqa: ARG001
    return "by the server"


def _read_on_loop(connection: Connection, driver: Any, look: Look) -> str:
    """Let the event loop read what has come, and ask whether that was the server's last word.

    It may have been a notice, and of the end of the connection the loop may learn much later.
    """

    async def read_and_ask() -> None:
        for _ in range(TURNS):
            if look(driver) is Local.CLOSED or not guard.has_unread_bytes(driver, connection.info):
                break
            await asyncio.sleep(0)
        client = driver.driver_connection
        if hasattr(client, "ping"):
            await client.ping(reconnect=False)
        else:
            await client.execute("")  # asyncpg's: taken in a failed transaction, too

    try:
        await_only(read_and_ask())
    except Exception as error:
        return str(error) or type(error).__name__
    return ""


def _read_psycopg(connection: Connection, driver: Any, look: Look) -> str:
    """Let libpq read it: what is said to an idle connection is a notice, and may be the last."""
    import psycopg

    last: list[str] = []

    def hear(notice: Any) -> None:  # which is gone afterwards
        if notice.severity_nonlocalized in FATAL:
            last.append(notice.message_primary)

    client = getattr(driver, "driver_connection", driver)
    client.add_notice_handler(hear)
    try:
        while (
            not last
            and look(driver) is not Local.CLOSED
            and guard.has_unread_bytes(driver, connection.info)
        ):
            client.pgconn.consume_input()
            client.pgconn.is_busy()
    except psycopg.Error as error:
        return str(error)
    finally:
        client.remove_notice_handler(hear)
    return last[0] if last else "by the server" if look(driver) is Local.CLOSED else ""


READERS: dict[str, Callable[[Connection, Any, Look], str]] = {
    "psycopg": _read_psycopg,
    "psycopg_async": _read_psycopg,
    "pymysql": _read_pymysql,
    "asyncpg": _read_on_loop,
    "asyncmy": _read_on_loop,
}
