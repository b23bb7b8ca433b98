"""What a unit asks a session of SQLAlchemy's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.orm import SessionTransactionOrigin

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def is_clean(session: Session) -> bool:
    """Tell whether the session has nothing to flush."""
    return session._is_clean()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (session.dirty would build a set each time)


def is_by_hand(session: Session) -> bool:
    """Tell whether the session is in a transaction that was opened by `session.begin()`."""
    transaction = session.get_transaction()
    return transaction is not None and transaction.origin is not SessionTransactionOrigin.AUTOBEGIN
