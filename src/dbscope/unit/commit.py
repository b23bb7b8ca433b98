"""COMMIT: stored, not stored, or nobody knows; whatever it is, nothing is left open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dbscope.errors import DatabaseUnavailable, TransactionOutcomeUnknown, UnexpectedRollback
from dbscope.unit.block import Outcome
from dbscope.unit.hooks import Hook
from dbscope.unit.ownership import InternalEnd
from dbscope.unit.rollback import discard, roll_back
from dbscope.watch.events import CommitFailed, OutcomeUnknown

if TYPE_CHECKING:
    from dbscope.unit.block import Block
    from dbscope.unit.unit import Unit

# PostgreSQL, "Appendix A. PostgreSQL Error Codes": the two that leave the outcome open.
OUTCOME_OPEN = frozenset({"08007", "40003"})


def commit(unit: Unit) -> None:
    """COMMIT; whatever goes wrong, nothing is left open."""
    root = unit.blocks[0]
    try:
        with InternalEnd(unit):
            if unit.session is not None:
                unit.session.commit()
    except BaseException as error:
        after_failed_commit(unit, root, error)
    else:
        unit.pending_hooks += root.end(Outcome.COMMITTED)


def after_failed_commit(unit: Unit, root: Block, error: BaseException) -> None:
    """Leave nothing open after a COMMIT that failed, and raise what that means.

    It returns if the work is stored all the same, which only its answer did not tell, or a listener
    of the application has hidden.
    """
    if unit.commit.is_stored:
        _listener_failed(unit, root, error)
        return
    if not is_open(unit, error):
        unit.begun = False  # a COMMIT that was refused is the end of it, too
        unit.source.events.tell(CommitFailed, unit, error)
        roll_back(unit, error)
        raise error
    if unit.proof is not None and (found := _found_out(unit, error)) is not Outcome.UNKNOWN:
        root.outcome = None
        unit.pending_hooks += root.end(found)
        if found is Outcome.ROLLED_BACK:
            raise nothing_stored(unit) from error
        return
    unit.scope.note_stored()
    root.end(Outcome.UNKNOWN)
    unit.source.events.tell(OutcomeUnknown, unit, error)
    discard(unit)
    if isinstance(error, TransactionOutcomeUnknown) or not isinstance(error, Exception):
        raise error
    raise TransactionOutcomeUnknown(f"In {root}:") from error


def is_open(unit: Unit, error: BaseException) -> bool:
    """Tell whether it is open what became of the work."""
    return isinstance(error, TransactionOutcomeUnknown) or (unit.commit.is_open and is_lost(error))


def _listener_failed(unit: Unit, root: Block, error: BaseException) -> None:
    """End what is stored, though a listener of the application failed when it was told so.

    Its error is one of a hook: a failure would make people do again what is done.
    """
    try:
        with InternalEnd(unit):
            if unit.session is not None:
                unit.session.reset()
    finally:
        unit.source.after_transaction(unit)
        unit.pending_hooks += root.end(Outcome.COMMITTED)

    def listener() -> None:
        raise error

    unit.pending_hooks.append(Hook(listener))


def _found_out(unit: Unit, error: BaseException) -> Outcome:
    """Ask what became of it; the session can be used again afterwards."""
    with InternalEnd(unit):
        if unit.connection is not None:
            unit.connection.invalidate(error)
        if unit.session is not None:
            unit.session.rollback()
    return unit.source.outcome_of(unit, is_cancelled=not isinstance(error, Exception))


def nothing_stored(unit: Unit) -> DatabaseUnavailable:
    """Return the error of a COMMIT that is known to have come to nothing."""
    error = DatabaseUnavailable(f"The connection of {unit.scope} was lost at COMMIT.")
    error.nothing_was_stored = not unit.scope.stored
    return error


def is_lost(error: BaseException) -> bool:
    """Tell whether an error of COMMIT leaves open what became of it."""
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        return error.connection_invalidated or state in OUTCOME_OPEN
    return not isinstance(error, SQLAlchemyError | UnexpectedRollback)
