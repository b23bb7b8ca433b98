"""How work ends: COMMIT or ROLLBACK, RELEASE or ROLLBACK TO, and nothing left open after any error.

Plain functions over a plain `Session`; where they wait, they are carried.
"""

from __future__ import annotations

import logging
from asyncio import CancelledError
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dbscope.errors import (
    BlocksOutOfOrder,
    ConcurrentUse,
    DatabaseUnavailable,
    ImplicitCommit,
    TransactionEndedOutside,
    TransactionManagementError,
    TransactionOutcomeUnknown,
    UnexpectedRollback,
)
from dbscope.unit.block import MANUAL, Block, Kind, Outcome, describe
from dbscope.unit.hooks import innermost_first
from dbscope.unit.unit import Leaving, Unit, is_by_hand, is_clean

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

logger = logging.getLogger("dbscope")

# PostgreSQL, "Appendix A. PostgreSQL Error Codes": the two that leave the outcome open.
OUTCOME_OPEN = frozenset({"08007", "40003"})


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
    unit.blocks.pop()
    try:
        with Leaving(unit):
            _send_rollback(unit, block)
    except BaseException as failure:
        _give_up(unit, failure, error or block.fault)
        if not isinstance(failure, Exception | CancelledError):
            raise
    finally:
        unit.due += block.end(Outcome.ROLLED_BACK)


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


def _give_up(unit: Unit, failure: BaseException, error: BaseException | None) -> None:
    logger.error("The rollback failed, so the connection is discarded.", exc_info=failure)
    if error is not None:
        error.add_note(f"The rollback after this error failed too: {failure!r}")
    _discard(unit)
    unit.break_all(error or failure)


def _discard(unit: Unit) -> None:
    with Leaving(unit):
        if unit.session is not None:
            unit.session.invalidate()


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
            _discard(unit)
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
        if session is not None and not is_clean(session):
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


def commit(unit: Unit) -> None:
    """COMMIT; whatever goes wrong, nothing is left open."""
    root = unit.blocks[0]
    try:
        with Leaving(unit):
            if unit.session is not None:
                unit.session.commit()
    except BaseException as error:
        after_failed_commit(unit, root, error)
    else:
        unit.due += root.end(Outcome.COMMITTED)


def after_failed_commit(unit: Unit, root: Block, error: BaseException) -> None:
    """Leave nothing open after a COMMIT that failed, and raise what that means.

    It returns if the work is stored all the same, which only its answer did not tell.
    """
    if unit.just_committed is not None:
        _listener_failed(unit, root)
        raise error
    if not is_open(unit, error):
        roll_back(unit, error)
        raise error
    if unit.proof is not None and (found := _found_out(unit, error)) is not Outcome.UNKNOWN:
        root.outcome = None
        unit.due += root.end(found)
        if found is Outcome.ROLLED_BACK:
            raise nothing_stored(unit) from error
        return
    unit.scope.stored = True
    root.end(Outcome.UNKNOWN)
    unit.source.counters["outcomes_unknown"] += 1
    _discard(unit)
    if isinstance(error, TransactionOutcomeUnknown) or not isinstance(error, Exception):
        raise error
    raise TransactionOutcomeUnknown(f"In {root}:") from error


def is_open(unit: Unit, error: BaseException) -> bool:
    """Tell whether it is open what became of the work."""
    return isinstance(error, TransactionOutcomeUnknown) or (was_sent(unit) and is_lost(error))


def was_sent(unit: Unit) -> bool:
    """Tell whether COMMIT was sent, and not only listened for by the application."""
    transaction = None if unit.connection is None else unit.connection.get_transaction()
    return unit.committing and (transaction is None or not transaction.is_active)


def _listener_failed(unit: Unit, root: Block) -> None:
    """End what is stored, though a listener of the application has failed when it was told so."""
    with Leaving(unit):
        if unit.session is not None:
            unit.session.reset()
    unit.due += root.end(Outcome.COMMITTED)


def _found_out(unit: Unit, error: BaseException) -> Outcome:
    """Ask what became of it; the session can be used again afterwards."""
    with Leaving(unit):
        if unit.connection is not None:
            unit.connection.invalidate(error)
        if unit.session is not None:
            unit.session.rollback()
    return unit.source.outcome_of(unit)


def nothing_stored(unit: Unit) -> DatabaseUnavailable:
    """Return the error of a COMMIT that is known to have come to nothing."""
    error = DatabaseUnavailable(f"The connection of {unit.scope} was lost at COMMIT.")
    error.nothing_was_stored = True
    return error


def is_lost(error: BaseException) -> bool:
    """Tell whether an error of COMMIT leaves open what became of it."""
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        return error.connection_invalidated or state in OUTCOME_OPEN
    return not isinstance(error, SQLAlchemyError | UnexpectedRollback)


def roll_back(unit: Unit, error: BaseException | None = None) -> None:
    """ROLLBACK everything; the hooks for that are then due.

    Args:
        unit: what to roll back.
        error: why; it keeps a note if the rollback fails as well.
    """
    try:
        with Leaving(unit):
            if unit.session is not None:
                unit.session.rollback()
    except BaseException as failure:
        _give_up(unit, failure, error)
        if not isinstance(failure, Exception | CancelledError):
            raise
    finally:
        due = [hook for block in unit.blocks for hook in block.end(Outcome.ROLLED_BACK)]
        unit.due += innermost_first(due)


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
