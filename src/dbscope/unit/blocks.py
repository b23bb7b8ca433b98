"""Entering and leaving atomic blocks, and what becomes of what was done inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbscope.errors import (
    BlocksOutOfOrder,
    DurableError,
    Rollback,
    TransactionManagementError,
)
from dbscope.unit import deadline, finish, options
from dbscope.unit.block import MANUAL, Block, Kind, Outcome
from dbscope.unit.unit import Leaving, is_by_hand, is_clean

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dbscope.unit.options import Asked
    from dbscope.unit.unit import Unit


def enter(unit: Unit, asked: Asked, *, where: object, owner: object) -> Block:
    """Open a block in the unit. Nothing is sent, except what the session has pending.

    Raises:
        DurableError: `durable`, and there is a block around it.
        AttributeMismatch: it would join a transaction of another kind.
        TransactionManagementError: in autocommit, inside `with session.begin()`.
        ConcurrentUse: another task is in the middle of using the unit.
    """
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
        with Leaving(unit):
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
    """Tell whether opening a block has something to send first."""
    return unit.session is not None and not is_clean(unit.session)


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
    if unit.block is not block:
        _leave_out_of_order(unit, block, error)
    elif block.kind is Kind.JOINED:
        _leave_joined(unit, block, error)
    elif error is not None or block.fault is not None or block.rollback_only:
        finish.undo(unit, block, error)
        _complain(unit, block, error)
    else:
        finish.keep(unit, block)


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
    failure = BlocksOutOfOrder(f"Left {block} while it was not the innermost one.")
    if block in unit.blocks:
        unit.blocks.remove(block)
        unit.break_all(failure)
    block.outcome = Outcome.ROLLED_BACK
    if error is None:
        raise failure
