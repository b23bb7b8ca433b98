"""Whether the transaction of a unit is still there, as its driver knows without asking.

Whoever has the driver's connection can end it by a call (`rollback()`, `commit()`, `close()`), and
the server can by closing the connection. What came then would be a transaction of its own, and
COMMIT the success of nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause

from dbscope.backends.connecting import AUTOCOMMIT
from dbscope.backends.driver import WAYS, ConnectionStatus
from dbscope.backends.sandbox import is_sandboxed
from dbscope.backends.sockets import has_unread_bytes
from dbscope.engine import telling
from dbscope.engine.sql_text import check_sql
from dbscope.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    TransactionEndedOutside,
    UnexpectedRollback,
)
from dbscope.watch.events import CommitSent, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from dbscope.backends.base import Renew
    from dbscope.backends.driver import Driver
    from dbscope.unit.unit import Unit

    Status = Callable[[Any], ConnectionStatus]

COMMIT_SENT = "dbscope.commit_sent"  # in the info of a connection that no unit has
NOTHING: dict[str, Any] = {}
UNIT = "dbscope_unit"  # among the attributes of SQLAlchemy's connection: each statement asks


# -- when it begins ----------------------------------------------------------------------------


def refuse_autocommit(unit: Unit, connection: Connection, driver: Driver) -> None:
    """Raise ConfigurationError if what is sent would be stored at once, unless that was asked for.

    A listener to the engine's events may have told the driver so, and so may who made the engine.
    """
    if not driver.commits_by_itself(connection.connection.dbapi_connection):
        return
    level = connection.get_execution_options().get("isolation_level")
    if unit.blocks or str(level).upper() != "AUTOCOMMIT":
        raise ConfigurationError(f"The connection of {unit.scope} is in autocommit: {AUTOCOMMIT}.")


# -- before each statement ---------------------------------------------------------------------


def install(engine: Engine, driver: Driver, renew: Renew) -> None:
    """Look whenever a statement is sent: once for the life of an engine.

    Not by SQLAlchemy's events `do_execute`, where the first listener is the last.

    Args:
        engine: whose dialect it is that sends.
        driver: what is known of its driver.
        renew: whether a statement that has failed is to be sent once more.
    """
    status = driver.transaction_status
    for name in WAYS:
        execute = getattr(engine.dialect, name)
        setattr(engine.dialect, name, partial(send, status, execute, renew))
    dialect: Any = engine.dialect
    dialect.do_commit = partial(send_commit, dialect.do_commit)


def send(
    status: Status, execute: Callable[..., None], renew: Renew, *args: Any, **kwargs: Any
) -> None:
    """Send a statement, unless the transaction that it is to be part of is over.

    Args:
        status: what the driver knows of a connection.
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
        check_sent(unit, connection, status, args)
        listeners = unit.source.events.listeners
        if listeners:
            execute = partial(telling.execute, listeners, unit, execute)
    try:
        execute(*args, **kwargs)
    except Exception as error:
        is_first = unit is not None and not unit.begun
        if connection is None or not renew(args[0], connection, error, is_first):
            raise
        execute(*args, **kwargs)
    if unit is not None and not unit.begun:
        unit.begun = (
            status(connection.connection.dbapi_connection) is ConnectionStatus.IN_TRANSACTION
        )


def writes_in_with(compiled: Any) -> bool:
    """Tell whether one of the queries of WITH writes, as PostgreSQL allows below a SELECT."""
    queries = getattr(compiled, "ctes", None) or ()
    return any(getattr(each.element, "is_dml", False) for each in queries)


def check_sent(unit: Unit, connection: Any, status: Status, args: tuple[Any, ...]) -> None:
    """Refuse what would end the transaction, or come after its end.

    Args:
        unit: whose statement it is.
        connection: that it is sent on.
        status: what the driver knows of a connection.
        args: of the dialect: the cursor, the statement, its parameters if any, and the context.
    """
    compiled = args[-1].compiled
    if compiled is None or isinstance(compiled.statement, TextClause):
        check_sql(unit, args[1], unit.source.sql_family)
    elif unit.first_write is None and writes_in_with(compiled):
        unit.note_write()
    if (
        unit.begun
        and is_over(unit, connection, status(connection.connection.dbapi_connection))
        and not has_failed(unit)
    ):
        raise _ended(unit)


def send_commit(commit: Callable[[Any], None], connection: Any) -> None:
    """Send COMMIT: from now on its outcome is open, until there is an answer.

    Args:
        commit: the dialect's own way to send it.
        connection: of the pool.
    """
    info: dict[str, Any] = getattr(connection, "info", {})
    unit: Unit | None = info.get("dbscope.unit")
    if unit is None:
        info[COMMIT_SENT] = True
        commit(connection)
        del info[COMMIT_SENT]
        return
    if unit.connection is not None:
        unit.commit.send()
        if unit.source.events.listeners:
            unit.source.events.tell(CommitSent, unit)
    commit(connection)


def ended(unit: Unit, connection: Connection, status: Status) -> TransactionEndedOutside | None:
    """Return the error for a transaction that was ended on the driver, before ROLLBACK is sent.

    Not if SQLAlchemy has ended it, as it does when a flush fails.
    """
    known = None if unit.session is None else unit.session.get_transaction()
    if not unit.begun or has_failed(unit) or known is None or not known.is_active:
        return None
    state = status(connection.connection.dbapi_connection)
    return _ended(unit) if is_over(unit, connection, state) else None


def is_over(unit: Unit, connection: Connection, state: ConnectionStatus) -> bool:
    """Tell whether the transaction is gone, or SQLAlchemy has begun another one in its place."""
    return state is ConnectionStatus.IDLE or connection._transaction is not unit.root  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (each statement asks)


def has_failed(unit: Unit) -> bool:
    """Tell whether a statement has failed: some failures end all of a transaction by themselves."""
    return any(block.fault is not None for block in unit.blocks)


def _ended(unit: Unit) -> TransactionEndedOutside:
    """Note that nobody can tell what became of the work, and return the error that says so."""
    error = TransactionEndedOutside(f"In {unit.scope}:")
    unit.break_all(error)
    unit.forget_hooks()
    unit.scope.note_stored()
    unit.source.events.tell(OutcomeUnknown, unit, error)
    return error


# -- before COMMIT -----------------------------------------------------------------------------


def check(unit: Unit, connection: Connection, driver: Driver) -> None:
    """Raise unless COMMIT would be the end of the transaction of the unit.

    Raises:
        DatabaseUnavailable: the connection is closed, by us or by the server.
        UnexpectedRollback: an error went past SQLAlchemy, so that COMMIT would become ROLLBACK.
        TransactionEndedOutside: there is no transaction any more.
    """
    if connection.invalidated or connection.closed:
        raise not_stored(unit, "was given up")
    dbapi: Any = connection.connection.dbapi_connection
    state = driver.transaction_status(dbapi)
    if state is not ConnectionStatus.CLOSED and (why := _goodbye(connection, driver, dbapi)):
        _raise_closed(unit, connection, f"was closed ({why})")
    if state is ConnectionStatus.CLOSED:
        _raise_closed(unit, connection, "was closed")
    if state is ConnectionStatus.IN_ERROR:
        raise UnexpectedRollback(f"In {unit.scope}:")
    if unit.begun and is_over(unit, connection, state):
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


def _goodbye(connection: Connection, driver: Driver, dbapi: Any) -> str:
    """Return what the server has said to end the connection, unread so far; "" if nothing.

    An idle connection has nothing to read, but for notices. That of a sandbox may not be idle: what
    has come may be the answer that another thread waits for.
    """
    if not driver.says_goodbye or not has_unread_bytes(dbapi, connection.info):
        return ""
    return "" if is_sandboxed(connection) else driver.read_goodbye(connection, dbapi)
