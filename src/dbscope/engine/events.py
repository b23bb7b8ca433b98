"""What the engine tells the units: a COMMIT that is sent, a statement that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from dbscope.engine import faults
from dbscope.engine.guard import Local, look_of
from dbscope.errors import DatabaseUnavailable, TransactionOutcomeUnknown, UnexpectedRollback
from dbscope.unit.ending import OUTCOME_OPEN

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import ExceptionContext

    from dbscope.unit.unit import Unit


def unit_on(connection: Connection | None) -> Unit | None:
    """Return the unit that has this connection; None if it was taken from the engine by hand."""
    if connection is None or connection.invalidated or connection.closed:
        return None
    unit: Unit | None = connection.info.get("dbscope.unit")
    return unit


def install(engine: Engine, name: str) -> None:
    """Listen to an engine: once for its life."""
    look = look_of(engine)
    event.listen(engine, "handle_error", _on_error)
    event.listen(engine, "rollback_savepoint", _on_rollback_savepoint)

    @event.listens_for(engine, "commit")
    def on_commit(connection: Connection) -> None:
        unit = unit_on(connection)
        if unit is None:
            return
        # An error that went past SQLAlchemy: the server would answer this COMMIT with ROLLBACK.
        if look(connection.connection.dbapi_connection) is Local.IN_ERROR:
            raise UnexpectedRollback(f"In {unit.scope.name}:")
        unit.commit_sent = True

    @event.listens_for(engine, "do_connect")
    def on_connect(dialect: Any, record: Any, args: Any, kwargs: Any) -> Any:  # noqa: ARG001
        try:
            return dialect.connect(*args, **kwargs)
        except Exception as error:
            if faults.is_away(error):
                raise DatabaseUnavailable(f"{name} cannot be reached: {error}.") from error
            raise


def _on_rollback_savepoint(connection: Connection, name: str, context: None) -> None:  # noqa: ARG001
    if not connection.invalidated:
        connection.info["dbscope.savepoint"] = name


def _on_error(context: ExceptionContext) -> BaseException | None:
    connection = context.connection
    unit = unit_on(connection)
    if unit is None or connection is None:
        return None
    error = context.sqlalchemy_exception or context.original_exception
    if not isinstance(error, DBAPIError) and not context.is_disconnect:
        return None
    unit.source.on_fault(unit, connection, error)
    if unit.commit_sent:
        return _failed_commit(unit, connection, error, lost=context.is_disconnect)
    unit.mark_broken(error)
    if context.is_disconnect and isinstance(error, DBAPIError):
        return DatabaseUnavailable(f"The connection of {unit.scope.name} was lost: {error.orig}.")
    return None


def _failed_commit(
    unit: Unit, connection: Connection, error: BaseException, *, lost: bool
) -> BaseException | None:
    if not isinstance(error, DBAPIError):
        unit.commit_lost()
        return None
    if lost or faults.sqlstate(error.orig) in OUTCOME_OPEN:
        unit.commit_lost()
        return TransactionOutcomeUnknown(f"In {unit.scope.name}:")
    # SQLite stays in the transaction and keeps the write lock, and SQLAlchemy thinks it is over.
    connection.dialect.do_rollback(connection.connection)
    return None
