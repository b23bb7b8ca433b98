"""What the engine tells the units: a COMMIT that is sent, a statement that failed."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from dbscope.engine import faults
from dbscope.errors import DatabaseUnavailable, TransactionOutcomeUnknown
from dbscope.unit.ending import OUTCOME_OPEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import ExceptionContext

    from dbscope.unit.unit import Unit


def install(engine: Engine, name: str, on_cancel: Callable[[Connection], None]) -> None:
    """Listen to an engine: once for its life.

    Only to its dialect: a single listener to its connections (`commit`, `begin`, …) makes
    SQLAlchemy dispatch every event of every connection, which costs 22 µs a transaction.

    Args:
        engine: the engine.
        name: what messages call the database.
        on_cancel: what to do with a connection whose task was cancelled in a statement.
    """

    @event.listens_for(engine, "handle_error")
    def on_error(context: ExceptionContext) -> BaseException | None:
        connection = context.connection
        if connection is None or connection.closed or connection.invalidated:
            return None
        if isinstance(context.original_exception, CancelledError):
            on_cancel(connection)
        try:
            unit: Unit | None = connection.info.get("dbscope.unit")
        except NotImplementedError:  # the connection by which SQLAlchemy gets to know the server
            return None
        return None if unit is None else _on_error(unit, connection, context)

    @event.listens_for(engine, "do_connect")
    def on_connect(dialect: Any, record: Any, args: Any, kwargs: Any) -> Any:  # noqa: ARG001
        try:
            return dialect.connect(*args, **kwargs)
        except Exception as error:
            if faults.is_away(error):
                raise DatabaseUnavailable(f"{name} cannot be reached: {error}.") from error
            raise


def _on_error(
    unit: Unit, connection: Connection, context: ExceptionContext
) -> BaseException | None:
    error = context.sqlalchemy_exception or context.original_exception
    # COMMIT and ROLLBACK have no statement.
    if unit.committing and context.statement is None:
        return _failed_commit(unit, connection, error, lost=context.is_disconnect)
    if not isinstance(error, DBAPIError) and not context.is_disconnect:
        return None
    unit.mark_broken(error)
    if context.is_disconnect and isinstance(error, DBAPIError):
        return DatabaseUnavailable(f"The connection of {unit.scope} was lost: {error.orig}.")
    return None


def _failed_commit(
    unit: Unit, connection: Connection, error: BaseException, *, lost: bool
) -> BaseException | None:
    if lost or not isinstance(error, DBAPIError) or faults.sqlstate(error.orig) in OUTCOME_OPEN:
        unit.commit_lost()
        is_error = isinstance(error, Exception)  # and not a cancellation
        return TransactionOutcomeUnknown(f"In {unit.scope}:") if is_error else None
    # SQLite stays in the transaction and keeps the write lock, and SQLAlchemy thinks it is over.
    unit.committing = False
    connection.dialect.do_rollback(connection.connection)
    return None
