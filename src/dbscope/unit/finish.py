"""How work ends: COMMIT or ROLLBACK, RELEASE or ROLLBACK TO, and nothing left open after any error.

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
from dbscope.unit.block import MANUAL, Block, Kind, describe
from dbscope.unit.commit import commit
from dbscope.unit.rollback import discard, give_up, roll_back, rolled_back, tell_ended
from dbscope.unit.unit import Leaving, Unit, is_by_hand, is_clean

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

# -- a block -----------------------------------------------------------------------------------


def keep(unit: Unit, block: Block) -> None:
    """Leave a sound block: RELEASE its savepoint, or COMMIT."""
    if block.kind is Kind.ROOT:
        try:
            run_before_commit(unit)
        except BaseException as error:
            undo(unit, block, error)
            raise
        try:
            _finish_root(unit, block)
        finally:
            unit.blocks.remove(block)
        return
    try:
        with Leaving(unit):
            _release(unit, block)
    except BaseException as error:
        undo(unit, block, error)
        raise
    unit.blocks.pop()
    block.join()


def _release(unit: Unit, block: Block) -> None:
    if unit.session is not None and not is_clean(unit.session):
        unit.session.flush()
    if block.nested is not None:
        block.is_releasing = True
        block.nested.commit()


def undo(unit: Unit, block: Block, error: BaseException | None) -> None:
    """Roll a block back; a failure in doing so never hides the error that is leaving it."""
    ended = unit.source.ended_outside(unit)
    unit.blocks.pop()
    try:
        with Leaving(unit):
            _send_rollback(unit, block)
    except BaseException as failure:
        give_up(unit, failure, error or block.fault)
        if not isinstance(failure, Exception | CancelledError):
            raise
    finally:
        unit.due += rolled_back(block)
    tell_ended(ended, error)


def _send_rollback(unit: Unit, block: Block) -> None:
    if unit.session is None:
        return
    base = block.base
    if base.nested is None:
        unit.session.rollback()
        return
    was_active = base.savepoint is not None and base.savepoint.is_active
    base.nested.rollback()
    if unit.connection is not None:
        _savepoint_rolled_back(unit, base, unit.connection, block.fault, was_active=was_active)
    base.savepoint = None
    if base is not block:
        base.nested = unit.session.begin_nested()


def _savepoint_rolled_back(
    unit: Unit,
    block: Block,
    connection: Connection,
    fault: BaseException | None,
    *,
    was_active: bool,
) -> None:
    if connection.invalidated:
        unit.break_all(fault or ConnectionError("the connection was lost"))
    elif block.savepoint is not None and _goes_on(connection):
        name: str = block.savepoint._savepoint  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if block.is_releasing and not was_active:
            # SQLAlchemy takes a RELEASE that has failed for the end of it.
            connection.dialect.do_rollback_to_savepoint(connection, name)
        # ROLLBACK TO keeps the savepoint; a loop of failing blocks would pile them up
        # (https://code.djangoproject.com/ticket/23074).
        connection.dialect.do_release_savepoint(connection, name)


def _goes_on(connection: Connection) -> bool:
    """Tell whether there is a transaction; a deadlock takes all of it on some servers."""
    transaction = connection.get_transaction()
    return transaction is not None and transaction.is_active


# -- the whole ---------------------------------------------------------------------------------


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
            _finish_root(unit, unit.blocks[0])
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


def _finish_root(unit: Unit, root: Block) -> None:
    if root.rollback_only:
        roll_back(unit)
    elif root.fault is not None:
        roll_back(unit)
        raise swallowed(unit, root) from root.fault
    else:
        commit(unit)


def swallowed(unit: Unit, block: Block) -> TransactionManagementError:
    """Return the error for a broken block that is left as if nothing had happened."""
    for meaning in (ImplicitCommit, TransactionEndedOutside):
        if isinstance(block.fault, meaning):
            return meaning(f"In {block}:")
    unit.source.counters["unexpected_rollbacks"] += 1
    return UnexpectedRollback(f"In {block}:")


def _finish_autocommit(unit: Unit) -> None:
    session = unit.session
    try:
        if session is not None and is_by_hand(session):
            raise BlocksOutOfOrder(f"{unit.scope} ended inside a `session.begin()`.")
        # A transaction that `connection()` has begun ends with the scope.
        if session is not None and (unit.connection is not None or not is_clean(session)):
            with Leaving(unit):
                session.flush()
                session.commit()
    finally:
        roll_back(unit)


def run_before_commit(unit: Unit) -> None:
    """Run what wants to run inside the transaction, unless that is to be rolled back."""
    while unit.has_before_commit():
        for hook in unit.take_before_commit():
            unit.turn.world.call(hook.function)


def close(unit: Unit) -> None:
    """End the life of the session; it cannot be opened again."""
    unit.end_life()
    session: Session | None = unit.session
    if session is not None:
        unit.leaving = True
        session.close()
        unit.leaving = False
        unit.session = unit.handle = None
    unit.turn.wake()
