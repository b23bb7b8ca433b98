"""What the engine tells the units: a COMMIT that is sent, a statement that failed."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from dbscope.backends import errors
from dbscope.backends.base import info_of, unit_of
from dbscope.backends.sandbox import is_sandboxed
from dbscope.engine import fitness, notes, transaction
from dbscope.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    ManualCommitForbidden,
    ReadOnlyViolation,
    TransactionOutcomeUnknown,
    TransactionTimeout,
    UnexpectedRollback,
)
from dbscope.unit import deadline
from dbscope.watch.events import RollbackFailed

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import ExceptionContext

    from dbscope.backends.base import Backend
    from dbscope.errors import DBScopeError
    from dbscope.unit.unit import Unit


def install(engine: Engine, backend: Backend) -> None:
    """Listen to an engine: once for its life.

    Only to its dialect: a single listener to its connections (`commit`, `begin`, …) makes
    SQLAlchemy dispatch every event of every connection, which costs 22 µs a transaction.

    Args:
        engine: the engine.
        backend: that of its database.
    """

    @event.listens_for(engine, "handle_error")
    def on_error(context: ExceptionContext) -> BaseException | None:
        connection = context.connection
        if isinstance(context.sqlalchemy_exception, DBAPIError):
            notes.add(context.sqlalchemy_exception)
        if connection is None or connection.closed or connection.invalidated:
            return None
        blamed = backend.blame(context.original_exception)
        unit = unit_of(connection)
        if isinstance(context.original_exception, CancelledError) and not is_sandboxed(connection):
            backend.interrupt(connection)
        # COMMIT and ROLLBACK have no statement.
        is_commit = unit is not None and unit.commit.is_sent and context.statement is None
        if not is_commit and fitness.is_unfit(
            backend, connection, unit, context.original_exception
        ):
            context.is_disconnect = True
        found = (
            _outside(backend, connection, context)
            if unit is None
            else _on_error(backend, unit, connection, context)
        )
        return found if blamed is None else ConfigurationError(blamed)


def _on_error(
    backend: Backend, unit: Unit, connection: Connection, context: ExceptionContext
) -> BaseException | None:
    error = context.sqlalchemy_exception or context.original_exception
    # COMMIT and ROLLBACK have no statement.
    if unit.commit.is_sent and context.statement is None:
        return _failed_commit(unit, connection, error, lost=context.is_disconnect)
    if isinstance(error, ManualCommitForbidden):  # nothing was sent
        return None
    is_of_database = isinstance(error, DBAPIError) or context.is_disconnect
    if is_of_database or context.execution_context is not None:  # something may have been sent
        unit.mark_broken(error)
        backend.after_failure(unit, connection, error)
    if not is_of_database or backend.is_too_large(context):
        return None
    if unit.timed and _is_timeout(unit, context.original_exception):
        return TransactionTimeout(f"In {unit.block}:")
    if unit.is_readonly and errors.is_refused_write(context.original_exception):
        return ReadOnlyViolation(f"{unit.block or unit.scope} is read-only.")
    return _unavailable(unit, error, lost=context.is_disconnect)


def _outside(
    backend: Backend, connection: Connection, context: ExceptionContext
) -> BaseException | None:
    """Return the error of a connection that was lost, and that no unit has: `ping()`, for one."""
    was_commit = info_of(connection).pop(transaction.COMMIT_SENT, False)
    error = context.sqlalchemy_exception
    is_told = errors.TOLD_BY_OWNER in connection.get_execution_options()
    if is_told or not (context.is_disconnect and isinstance(error, DBAPIError)):
        return None
    if was_commit:
        return TransactionOutcomeUnknown(f"{backend.name}, outside of any scope:")
    return DatabaseUnavailable(f"The connection of {backend.name} was lost: {error.orig}.")


def _is_timeout(unit: Unit, error: BaseException | None) -> bool:
    """Tell whether the database has ended a statement because the time of its block was up."""
    block = unit.block
    return block is not None and deadline.is_over(block) and errors.is_interrupted(error)


def _unavailable(unit: Unit, error: BaseException, *, lost: bool) -> DBScopeError | None:
    if not isinstance(error, DBAPIError):
        return None
    is_refused = error.orig is not None and errors.is_refused(error.orig)
    if lost and unit.is_alone and unit.first_write is not None and not is_refused:
        unit.commit_lost()  # the database commits it by itself
        return TransactionOutcomeUnknown(f"In {unit.scope}:")
    if lost:
        return fitness.unavailable(unit, error)
    if not errors.is_locked(error.orig):
        return None
    found = errors.locked(unit.scope, error.orig or error)
    found.nothing_was_stored = not unit.scope.stored
    return found


def _failed_commit(
    unit: Unit, connection: Connection, error: BaseException, *, lost: bool
) -> BaseException | None:
    if isinstance(error, UnexpectedRollback):
        unit.commit.refuse()
        return None
    if isinstance(error, DBAPIError) and errors.ended_before(error.orig):
        unit.commit.refuse()
        return transaction.not_stored(unit, f"was closed ({error.orig})")
    if lost or not isinstance(error, DBAPIError) or errors.leaves_open(error.orig):
        unit.commit_lost()
        is_error = isinstance(error, Exception)  # and not a cancellation
        return TransactionOutcomeUnknown(f"In {unit.scope}:") if is_error else None
    # A database may stay in the transaction with its locks, and SQLAlchemy thinks it is over.
    unit.commit.refuse()
    try:
        connection.dialect.do_rollback(connection.connection)
    except Exception as failure:
        unit.source.events.tell(RollbackFailed, unit, failure)
        error.add_note(f"The rollback after this error failed too: {failure!r}")
        connection.invalidate(failure)
    is_unfit = errors.cannot_serve(error.orig)
    if is_unfit and not connection.invalidated:
        connection.invalidate(error)
    return _unavailable(unit, error, lost=is_unfit)
