"""What SQLAlchemy tells of the session of a unit: BEGIN, COMMIT, and the end of a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from dbscope.engine.healing import forget
from dbscope.engine.transaction import UNIT
from dbscope.unit import manual
from dbscope.unit.sessions import is_clean

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session, SessionTransaction


def listen(kind: type[Session]) -> None:
    """Listen to the sessions of a class, and of its subclasses."""
    event.listen(kind, "after_begin", _after_begin, propagate=True)
    event.listen(kind, "before_commit", _before_commit, propagate=True)
    event.listen(kind, "after_commit", _after_commit, propagate=True)
    event.listen(kind, "after_transaction_end", _after_transaction_end, propagate=True)


def _after_begin(session: Any, transaction: Any, connection: Connection) -> None:
    unit = session.dbscope_unit
    if unit is not None:
        connection.info["dbscope.unit"] = vars(connection)[UNIT] = unit
        manual.transaction_begun(unit, transaction, connection)
        unit.source.after_begin(unit, connection)


def _before_commit(session: Any) -> None:
    unit = session.dbscope_unit
    if unit is not None:
        manual.about_to_commit(unit)
        if not session.in_nested_transaction():
            manual.check_wanted(unit)
            if not is_clean(session):
                session.flush()
            unit.source.before_commit(unit)


def _after_commit(session: Any) -> None:
    if session.dbscope_unit is not None:
        transaction = session.get_nested_transaction() or session.get_transaction()
        session.dbscope_unit.commit.confirm(transaction)


def _after_transaction_end(session: Any, transaction: SessionTransaction) -> None:
    unit = session.dbscope_unit
    if unit is not None and (transaction.nested or transaction.parent is None):
        forget(session)
        manual.transaction_ended(unit, transaction)
        if unit.pending_hooks and not unit.leaving:
            unit.source.run_pending_hooks(unit)
