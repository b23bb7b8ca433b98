"""Entering and leaving atomic blocks, and what becomes of what was done inside."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING

from dbscope.errors import (
    BlocksOutOfOrder,
    DurableError,
    Rollback,
    TransactionManagementError,
)
from dbscope.unit import deadline, finish, options
from dbscope.unit.block import MANUAL, Block, Kind, Outcome
from dbscope.unit.ownership import InternalEnd
from dbscope.unit.rollback import give_up, rolled_back, tell_ended
from dbscope.unit.sessions import is_by_hand, is_clean
from dbscope.watch.events import BlockEnded, BlockLeft

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from dbscope.unit.options import AtomicOptions
    from dbscope.unit.unit import Unit


def enter(unit: Unit, asked: AtomicOptions, *, where: object, owner: object) -> Block:
    """Open a block in the unit. Nothing is sent, except what the session has pending.

    Raises:
        DurableError: `durable`, and there is a block around it.
        AttributeMismatch: it would join a transaction of another kind.
        TransactionManagementError: in autocommit, inside `with session.begin()`.
        ConcurrentUse: another task is in the middle of using the unit.
    """
    if unit.scope.is_watched:
        unit.wait_until_open()
    unit.check_free()
    parent = unit.block
    if parent is not None and asked.durable:
        raise DurableError(f"A durable block was opened at {where}, inside {parent}.")
    if parent is None and unit.session is not None and is_by_hand(unit.session):
        raise TransactionManagementError(
            f"The block opened at {where} cannot be part of a transaction begun by hand."
        )
    options.check(unit, asked, where)
    block = Block(_kind(parent, savepoint=asked.savepoint), where, parent, owner)
    if parent is None:
        block.isolation, block.readonly = asked.isolation, unit.readonly or asked.readonly is True
    if parent is None and unit.session is not None and not is_clean(unit.session):
        unit.session.flush()  # in autocommit: what was added before is not part of the block
    if block.kind is Kind.SAVEPOINT and unit.session is not None and not _is_at_start(unit):
        # SQLAlchemy sends SAVEPOINT itself only with the first statement inside.
        unit.session.flush()
        with InternalEnd(unit):
            block.nested = unit.session.begin_nested()
    deadline.begin(unit, block, asked.timeout)
    unit.scope.will_write |= not block.readonly
    unit.blocks.append(block)
    return block


def _is_at_start(unit: Unit) -> bool:
    """Tell whether nothing was done yet around a new block, so that its savepoint is left out.

    Rolling such a block back restarts what is around it (Rails' `RestartParentTransaction`).
    """
    session, parent = unit.session, unit.block
    if session is None or parent is None:
        return True
    base = parent.base
    if not is_clean(session) or _is_held(base, session):
        return False
    if base.nested is not None:
        return base.savepoint is None
    # ROLLBACK would expire what was read before, by another transaction; ROLLBACK TO does not.
    return unit.connection is None and not session.identity_map


def _is_held(base: Block, session: Session) -> bool:
    """Tell whether the user holds the transaction or savepoint, which cannot be restarted then."""
    return is_by_hand(session) if base.nested is None else base.owner is MANUAL


def _kind(parent: Block | None, *, savepoint: bool) -> Kind:
    if parent is None:
        return Kind.ROOT
    # In a broken transaction no savepoint can be made, and leaving one would hide the failure
    # (Django says so in `Atomic.__enter__`).
    return Kind.SAVEPOINT if savepoint and not parent.is_broken else Kind.JOINED


def must_wait_to_enter(unit: Unit) -> bool:
    """Tell whether opening a block has something to send first, or to wait for."""
    return unit.scope.is_watched or (unit.session is not None and not is_clean(unit.session))


def must_wait_to_leave(unit: Unit, block: Block) -> bool:
    """Tell whether leaving the block may have something to send, or a hook to run."""
    if block.kind is Kind.JOINED:
        return False
    if block.hooks is not None:
        return True
    session = unit.session
    if session is None:
        return False
    if not is_clean(session):
        return True
    base = block.base
    return unit.connection is not None and (base.nested is None or base.savepoint is not None)


def leave(unit: Unit, block: Block, error: BaseException | None) -> None:
    """Close a block: RELEASE or COMMIT if all went well, else ROLLBACK.

    Args:
        unit: the unit it was opened in.
        block: the block; the innermost one.
        error: the exception that leaves it.

    Raises:
        UnexpectedRollback: a failure inside was swallowed.
        BlocksOutOfOrder: it is not the innermost block, or its scope has ended.
        TransactionTimeout: its time is up.
    """
    if error is None and deadline.is_over(block) and not block.is_broken:
        error = deadline.error_of(block)
        _leave(unit, block, error)
        raise error
    _leave(unit, block, error)


def _leave(unit: Unit, block: Block, error: BaseException | None) -> None:
    if unit.source.events.listeners:
        unit.source.events.tell(BlockLeft, unit, block, error)
    if unit.block is not block:
        _leave_out_of_order(unit, block, error)
    elif block.kind is Kind.JOINED:
        _leave_joined(unit, block, error)
    elif error is not None or block.fault is not None or block.rollback_only:
        undo(unit, block, error)
        _complain(unit, block, error)
    else:
        keep(unit, block)


def _complain(unit: Unit, block: Block, error: BaseException | None) -> None:
    if error is None and block.fault is not None and not block.rollback_only:
        raise finish.swallowed(unit, block) from block.fault


def _leave_joined(unit: Unit, block: Block, error: BaseException | None) -> None:
    unit.blocks.pop()
    block.join()
    physical = block.physical
    if isinstance(error, Rollback):
        physical.rollback_only = True
    elif error is not None and physical.fault is None:
        physical.fault = error
        unit.broken = True


def _leave_out_of_order(unit: Unit, block: Block, error: BaseException | None) -> None:
    failure = BlocksOutOfOrder(f"{block} was left before a block inside it was.")
    if block in unit.blocks:
        unit.blocks.remove(block)
        unit.break_all(failure)
    block.outcome = Outcome.ROLLED_BACK
    if error is None:
        raise failure


def keep(unit: Unit, block: Block) -> None:
    """Leave a sound block: RELEASE its savepoint, or COMMIT."""
    if block.kind is Kind.ROOT:
        try:
            finish.run_before_commit(unit)
        except BaseException as error:
            undo(unit, block, error)
            raise
        try:
            finish.finish_root(unit, block)
        finally:
            unit.blocks.remove(block)
        return
    try:
        with InternalEnd(unit):
            _release(unit, block)
    except BaseException as error:
        undo(unit, block, error)
        raise
    unit.blocks.pop()
    block.join()
    unit.source.events.tell(BlockEnded, unit, block, Outcome.COMMITTED)


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
        with InternalEnd(unit):
            _send_rollback(unit, block)
    except BaseException as failure:
        give_up(unit, failure, error or block.fault)
        if not isinstance(failure, Exception | CancelledError):
            raise
    finally:
        unit.pending_hooks += rolled_back(block)
        unit.source.events.tell(BlockEnded, unit, block, Outcome.ROLLED_BACK)
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
