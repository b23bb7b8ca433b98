"""What a unit asks a session of SQLAlchemy's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect
from sqlalchemy.orm import SessionTransactionOrigin

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, Session

MOST_NAMED = 5  # kinds of objects in a message


def is_clean(session: Session) -> bool:
    """Tell whether the session has nothing to flush."""
    return session._is_clean()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (session.dirty would build a set each time)


def is_by_hand(session: Session) -> bool:
    """Tell whether the session is in a transaction that was opened by `session.begin()`."""
    transaction = session.get_transaction()
    return transaction is not None and transaction.origin is not SessionTransactionOrigin.AUTOBEGIN


def pending(session: Session | None) -> str:
    """Name what a session is going to store, for a message; classes and attributes, no values."""
    if session is None or is_clean(session):
        return ""
    changed = [each for each in session.dirty if session.is_modified(each)]
    named = [
        *(f"a new {type(each).__name__}" for each in session.new),
        *(f"a changed {type(each).__name__} ({_changed(each)})" for each in changed),
        *(f"a deleted {type(each).__name__}" for each in session.deleted),
    ]
    listed = list(dict.fromkeys(named))
    more = " and more" if len(listed) > MOST_NAMED else ""
    return f", and its session has {', '.join(listed[:MOST_NAMED])}{more}" if listed else ""


def _changed(instance: object) -> str:
    state: InstanceState[Any] = inspect(instance)
    return ", ".join(sorted(state.committed_state))
