"""ROLLBACK of all that a unit has done, and what is done when even that fails."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING

from dbscope.unit.block import Outcome
from dbscope.unit.hooks import innermost_first
from dbscope.unit.ownership import InternalEnd
from dbscope.watch.events import RollbackFailed

if TYPE_CHECKING:
    from dbscope.unit.block import Block
    from dbscope.unit.hooks import Hook
    from dbscope.unit.unit import Unit


def roll_back(unit: Unit, error: BaseException | None = None) -> None:
    """ROLLBACK everything; the hooks for that are then due.

    Args:
        unit: what to roll back.
        error: why; it keeps a note if the rollback fails as well.

    Raises:
        TransactionEndedOutside: the transaction was ended on the driver's connection, so that
            nobody knows what this has rolled back; it is a note on the error where there is one.
    """
    ended = unit.source.ended_outside(unit)
    try:
        with InternalEnd(unit):
            if unit.session is not None:
                unit.session.rollback()
    except BaseException as failure:
        give_up(unit, failure, error)
        if not isinstance(failure, Exception | CancelledError):
            raise
    finally:
        due = [hook for block in unit.blocks for hook in rolled_back(block)]
        unit.pending_hooks += innermost_first(due)
    tell_ended(ended, error)


def rolled_back(block: Block) -> list[Hook]:
    """Return the hooks that are due by a ROLLBACK; none if nobody knows what it was one of."""
    return [] if block.outcome is Outcome.UNKNOWN else block.end(Outcome.ROLLED_BACK)


def tell_ended(ended: Exception | None, error: BaseException | None) -> None:
    """Raise that the transaction was ended outside, or note it on the error that is leaving."""
    if ended is None:
        return
    if error is None:
        raise ended
    error.add_note(str(ended))


def give_up(unit: Unit, failure: BaseException, error: BaseException | None) -> None:
    """Discard the connection of a ROLLBACK that has failed; its error hides no other."""
    unit.source.events.tell(RollbackFailed, unit, failure)
    if error is not None:
        error.add_note(f"The rollback after this error failed too: {failure!r}")
    discard(unit)
    unit.break_all(error or failure)


def discard(unit: Unit) -> None:
    """Close the connection, and give back what the transaction had."""
    try:
        with InternalEnd(unit):
            if unit.session is not None:
                unit.session.invalidate()
    finally:
        unit.source.after_transaction(unit)
