"""What SQLAlchemy tells a unit: that a transaction began or ended, perhaps by the user's hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbscope.errors import ManualCommitForbidden, TransactionManagementError
from dbscope.unit import callsite, commit, finish, results
from dbscope.unit.block import MANUAL, Block, Kind, Outcome
from dbscope.watch.events import (
    BlockEnded,
    Committed,
    ConnectionReturned,
    RolledBack,
    SavepointBegun,
    TransactionBegun,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import SessionTransaction

    from dbscope.unit.unit import Unit

# ROLLBACK TO takes back the time that a server was told inside, but not on every server.
UNCERTAIN = (0.0, 0.0)


def transaction_begun(unit: Unit, transaction: SessionTransaction, connection: Connection) -> None:
    """BEGIN or SAVEPOINT was sent."""
    if transaction.nested:
        for block in unit.blocks:
            if block.nested is transaction:
                block.savepoint = connection.get_nested_transaction()
                unit.source.events.tell(SavepointBegun, unit, block)
    else:
        unit.connection = connection
        unit.root = connection.get_transaction()
        unit.begun = False
        unit.proof = None  # that of the transaction before says nothing about this one
        if not unit.is_alone:
            unit.source.events.tell(TransactionBegun, unit)


def savepoint_begun(unit: Unit, transaction: SessionTransaction) -> None:
    """`session.begin_nested()` was called by hand."""
    block = Block(Kind.SAVEPOINT, f"{unit.scope}, by begin_nested()", unit.block, MANUAL)
    block.nested = transaction
    unit.blocks.append(block)


def about_to_commit(unit: Unit) -> None:
    """COMMIT or RELEASE is next, and not by us: refuse what would lie or cut a block in two."""
    if unit.leaving:
        return
    check_allowed(unit)
    if unit.block is not None and unit.fault is not None:
        raise finish.swallowed(unit, unit.block.physical) from unit.fault
    if finish.has_before_commit(unit) and len(unit.blocks) == 1:
        try:
            finish.run_before_commit(unit)
        except BaseException as error:
            unit.mark_broken(error)
            raise


def check_wanted(unit: Unit) -> None:
    """Raise if a COMMIT by hand would keep what was said to be rolled back."""
    if not unit.leaving and (unit.doomed or (unit.blocks and unit.blocks[0].rollback_only)):
        raise ManualCommitForbidden(
            f"{unit.scope} was marked for rollback by `doom()` or `set_rollback(True)`; commit() "
            f"was called at {callsite.of_call()}."
        )
    if unit.results and not unit.leaving and results.has_open(unit):
        raise TransactionManagementError(
            f"COMMIT in {unit.scope} would close a result that is still being read in pieces: "
            f"called at {callsite.of_call()}. Read all of it before, or close it."
        )


def check_allowed(unit: Unit) -> None:
    """Raise if commit() or rollback() by hand is not allowed here."""
    for block in unit.blocks:
        if block.owner is not None and block.owner is not MANUAL:
            called = f"called inside {block}, at {callsite.of_call()}"
            raise ManualCommitForbidden(f"`session.commit()` or its like was {called}.")
    if unit.source.forbid_manual_commit:
        message = f"{unit.source} was made with manual_commit='forbid'."
        raise ManualCommitForbidden(f"{message} Called at {callsite.of_call()}.")


def check_end(unit: Unit) -> None:
    """Raise if the transaction cannot be ended by hand here, before anything of it is."""
    check_allowed(unit)
    if unit.connection is not None and not unit.turn.world.can_wait():
        raise TransactionManagementError(
            f"In {unit.scope}: the plain session of an async one was to be ended at "
            f"{callsite.of_call()}, where nothing can be awaited. Nothing was done: write "
            "`await session.close()`, or the like, on the session that `db.session` is."
        )


def transaction_ended(unit: Unit, transaction: SessionTransaction) -> None:
    """The transaction or savepoint is over, and the connection given back."""
    committed = unit.commit.end(transaction)
    if transaction.nested:
        if unit.server_limit is not None and not committed:
            unit.server_limit = UNCERTAIN
        _savepoint_ended(unit, transaction, committed=committed)
        return
    if unit.connection is not None and unit.is_alone:
        if committed and unit.first_write is not None:
            unit.scope.note_stored()
    elif unit.connection is not None and not unit.commit.is_lost:
        kind = Committed if committed else RolledBack
        unit.source.events.tell(kind, unit, not unit.leaving)
        if committed:
            unit.scope.note_stored(outer=unit.first_write is not None)
    if unit.connection is not None and unit.source.events.listeners:
        unit.source.events.tell(ConnectionReturned, unit, committed)
    unit.connection = unit.root = None
    unit.server_limit = unit.first_write = None
    unit.source.after_transaction(unit)
    if not unit.leaving and unit.blocks:
        _ended_by_hand(unit, committed=committed)


def _savepoint_ended(unit: Unit, transaction: SessionTransaction, *, committed: bool) -> None:
    for block in unit.blocks:
        if block.nested is transaction and block.owner is MANUAL:
            unit.blocks.remove(block)
            outcome = Outcome.COMMITTED if committed else Outcome.ROLLED_BACK
            unit.source.events.tell(BlockEnded, unit, block, outcome)
            if committed:
                block.join()
            else:
                unit.pending_hooks += block.end(Outcome.ROLLED_BACK)
            return


def _ended_by_hand(unit: Unit, *, committed: bool) -> None:
    root = unit.blocks[0]
    outcome = Outcome.COMMITTED if committed else root.outcome or Outcome.ROLLED_BACK
    unit.pending_hooks += root.end(outcome)
    _renew(unit)


def _renew(unit: Unit) -> None:
    unit.blocks = [Block(Kind.ROOT, unit.blocks[0].where)]
    unit.broken = False


def commit_failed(unit: Unit, error: BaseException) -> bool:
    """Leave nothing open after a COMMIT by hand that failed; the next transaction is new.

    Returns:
        Whether the work is stored all the same.
    """
    if not unit.blocks:
        return False
    try:
        commit.after_failed_commit(unit, unit.blocks[0], error)
    except BaseException as raised:
        _renew(unit)
        try:
            unit.source.run_pending_hooks(unit)
        except Exception as failure:
            raised.add_note(f"A hook failed as well: {failure!r}")
        raise
    _renew(unit)
    unit.source.run_pending_hooks(unit)
    return True
