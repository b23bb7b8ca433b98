"""How the work of a unit ends: COMMIT or ROLLBACK, and nothing left open after any error.

Plain functions over a plain `Session`; where they wait, they are carried.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING

from dbscope.errors import (
    BlocksOutOfOrder,
    ConcurrentUse,
    ImplicitCommit,
    TransactionEndedOutside,
    TransactionManagementError,
    UnexpectedRollback,
)
from dbscope.unit import results, serving
from dbscope.unit.block import MANUAL, Block, describe
from dbscope.unit.commit import commit
from dbscope.unit.ownership import InternalEnd
from dbscope.unit.rollback import discard, roll_back
from dbscope.unit.sessions import is_by_hand, is_clean
from dbscope.unit.unit import Unit
from dbscope.watch.events import ConcurrentUseRefused, FailureSwallowed, UnitClosed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def finish(unit: Unit, *, keep: bool) -> None:
    """Commit or roll back everything, and give the connection back.

    Args:
        unit: what to finish; if somebody is still in the middle of a statement, that is waited for.
        keep: commit, unless the unit was doomed or is broken.

    Raises:
        UnexpectedRollback: a failure inside was swallowed.
        BlocksOutOfOrder: a block is still open.
        TransactionOutcomeUnknown: the answer to COMMIT was lost.
        Exception: whatever COMMIT raised; the work is rolled back.
    """
    _wait_for_turn(unit)
    try:
        if len(unit.blocks) > 1:
            unit.blocks = [block for block in unit.blocks if block.owner is not MANUAL]
        if not keep or unit.doomed:
            roll_back(unit)
        elif open_blocks(unit):
            _refuse_open_blocks(unit)
        elif unit.blocks:
            finish_root(unit, unit.blocks[0])
        else:
            _finish_autocommit(unit)
    finally:
        unit.turn.give_back()


def flush(unit: Unit) -> None:
    """Send what is pending, before anything is committed anywhere."""
    session = unit.session
    if session is None or is_clean(session) or unit.doomed or unit.fault is not None:
        return
    _wait_for_turn(unit)
    try:
        session.flush()
    finally:
        unit.turn.give_back()


def check(unit: Unit) -> None:
    """Raise what `finish` would raise without asking the database, before another one commits."""
    if unit.doomed or not unit.blocks or unit.blocks[0].rollback_only:
        return
    if open_blocks(unit):
        raise _still_open(unit)
    root = unit.blocks[0]
    if root.fault is not None:
        raise swallowed(unit, root) from root.fault
    if unit.turn.strays:
        raise _cut_in_two(unit)
    if unit.scope.is_read_behind() and (error := results.left_open(unit)):
        raise error


def _cut_in_two(unit: Unit) -> ConcurrentUse:
    """Return the error for work that nobody has waited for: a part of it would be stored."""
    names = " and ".join(map(serving.name_of, unit.turn.strays))
    unit.source.events.tell(ConcurrentUseRefused, unit)
    return ConcurrentUse(
        f"{unit.scope} was about to be committed in the middle of {names}, which had begun to "
        "write in it and goes on: a part of that would be stored, and the rest not."
    )


def _wait_for_turn(unit: Unit) -> None:
    is_late = False
    while unit.turn.take() is None:
        if _comes_back(unit):
            continue
        # Whoever it is will not come back in time: end its statement, or else the connection.
        if not _ends_statement(unit, again=is_late):
            unit.turn.seize()
            discard(unit)
            is_late = True
            break
        is_late = True
    if is_late:
        unit.break_all(ConcurrentUse(f"{unit.scope} ended during a statement."))


def _comes_back(unit: Unit) -> bool:
    try:
        return unit.turn.wait(unit.turn.is_taken, unit.source.finish_timeout)
    except CancelledError:  # the time is up for all of it
        return False


def _ends_statement(unit: Unit, *, again: bool) -> bool:
    try:
        return unit.source.end_statement(unit, again=again)
    except CancelledError:  # the same while the server is asked
        return False


def _refuse_open_blocks(unit: Unit) -> None:
    error = _still_open(unit)
    roll_back(unit)
    raise error


def open_blocks(unit: Unit) -> list[Block]:
    """Return the blocks that somebody has entered, and not left."""
    return [block for block in unit.blocks if block.owner is not None and block.owner is not MANUAL]


def _still_open(unit: Unit) -> BlocksOutOfOrder:
    names = describe(open_blocks(unit))
    return BlocksOutOfOrder(f"{unit.scope} ended with a block still open: {names}.")


def finish_root(unit: Unit, root: Block) -> None:
    """COMMIT, or ROLLBACK where that was asked for, or something has failed."""
    if root.rollback_only:
        roll_back(unit)
    elif root.fault is not None:
        roll_back(unit)
        raise swallowed(unit, root) from root.fault
    elif unit.turn.strays:
        roll_back(unit)
        raise _cut_in_two(unit)
    elif unit.results and unit.scope.is_read_behind() and (error := results.left_open(unit)):
        roll_back(unit)
        raise error
    else:
        commit(unit)


def swallowed(unit: Unit, block: Block) -> TransactionManagementError:
    """Return the error for a broken block that is left as if nothing had happened."""
    for meaning in (ImplicitCommit, TransactionEndedOutside):
        if isinstance(block.fault, meaning):
            return meaning(f"In {block}:")
    unit.source.events.tell(FailureSwallowed, unit, block)
    return UnexpectedRollback(f"In {block}:")


def _finish_autocommit(unit: Unit) -> None:
    session = unit.session
    try:
        if session is not None and is_by_hand(session):
            raise BlocksOutOfOrder(f"{unit.scope} ended inside a `session.begin()`.")
        # A transaction that `connection()` has begun ends with the scope.
        if session is not None and (unit.connection is not None or not is_clean(session)):
            with InternalEnd(unit):
                session.flush()
                session.commit()
    finally:
        roll_back(unit)


def has_before_commit(unit: Unit) -> bool:
    """Tell whether something is to run inside the transaction, before COMMIT."""
    hooks = unit.blocks[0].hooks if unit.blocks else None
    if hooks is None or not hooks.before_commit:
        return False
    return not (unit.doomed or unit.fault or unit.blocks[0].rollback_only)


def run_before_commit(unit: Unit) -> None:
    """Run what wants to run inside the transaction, unless that is to be rolled back."""
    while has_before_commit(unit):
        hooks = unit.blocks[0].hooks
        for hook in [] if hooks is None else hooks.take_before_commit():
            unit.turn.world.call(hook.function)
            if unit.scope.forgotten and (never_awaited := unit.scope.never_awaited()):
                raise never_awaited


def is_only_commit(unit: Unit) -> bool:
    """Tell whether its end is only COMMIT, of a driver that waits for futures only."""
    if unit.pending_hooks or unit.connection is None or not unit.source.is_async:
        return False
    if not unit.source.driver.futures_only:
        return False
    return len(unit.blocks) == 1 and unit.blocks[0].hooks is None


def close(unit: Unit) -> None:
    """End the life of the session; it cannot be opened again."""
    unit.end_life()
    session: Session | None = unit.session
    if session is not None:
        unit.leaving = True
        session.close()
        unit.leaving = False
        unit.session = unit.handle = None
    if unit.source.events.listeners:
        unit.source.events.tell(UnitClosed, unit)
    unit.turn.wake()
