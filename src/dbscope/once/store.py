"""The rows: claim a key in the transaction of a session, and store what came of it.

Plain functions over a plain session; async code carries them in a greenlet.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update

from dbscope.backends.inserting import UnderWay
from dbscope.errors import KeyReused
from dbscope.once.table import SHOWN, TABLE, inserting
from dbscope.once.values import check_key, digest

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session


def now() -> datetime:
    """Return the time in UTC, as the table has it."""
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass(frozen=True, slots=True)
class Claim:
    """A key that somebody wants to do something under.

    Args:
        key: it.
        fingerprint: of the input; None: not compared.
        keep: for how long it is kept.

    Raises:
        ValueError: no database could store the key.
    """

    key: str
    fingerprint: str | None
    keep: timedelta
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        """Refuse a key that cannot be one, before anything is sent."""
        check_key(self.key)

    @property
    def id(self) -> str:
        """Return the primary key of its row."""
        return digest(self.key)

    def values(self) -> dict[str, Any]:
        """Return its row."""
        time = now()
        return {
            "id": self.id,
            "key": self.key[:SHOWN],
            "fingerprint": self.fingerprint,
            "attempt": self.attempt,
            "result": None,
            "created_at": time,
            "expires_at": time + self.keep,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """What was stored under a key before.

    Args:
        result: as it is stored; None: there is none.
    """

    result: bytes | None


def claim(session: Session, wanted: Claim, *, wait: bool = True) -> Found | None:
    """Take the key for the transaction of this session, or return what was done under it before.

    Whoever is in the middle of it holds its row, and is waited for.

    Args:
        session: in a transaction.
        wanted: the key.
        wait: for somebody else who is in the middle of it.

    Returns:
        What was stored, or None if the key is ours now.

    Raises:
        KeyReused: it was used with another input.
        UnderWay: somebody else is in the middle of it.
    """
    rows = inserting(session.get_bind(clause=TABLE).dialect)
    if rows.insert(session, wanted.values(), wait=wait):
        return None
    row = rows.current(session, wanted.id)
    if row is None and not wait:
        raise UnderWay
    if row is not None and row.expires_at > now():
        return _found(wanted, row)
    if row is not None and _take_over(session, wanted, row):
        return None
    return claim(session, wanted, wait=wait)  # it was purged, or taken over, in this very moment


def find(session: Session, wanted: Claim) -> Found | None:
    """Return what was done under a key, and claim nothing: nobody is waited for.

    Raises:
        KeyReused: it was used with another input.
    """
    row = session.execute(select(TABLE).where(TABLE.c.id == wanted.id)).first()
    return _found(wanted, row) if row is not None and row.expires_at > now() else None


def _take_over(session: Session, wanted: Claim, row: Row[Any]) -> bool:
    """Make a row that was kept for long enough ours."""
    old = (TABLE.c.id == wanted.id) & (TABLE.c.attempt == row.attempt)
    result: Any = session.execute(update(TABLE).where(old).values(wanted.values()))
    return bool(result.rowcount)


def _found(wanted: Claim, row: Row[Any]) -> Found:
    if None not in (wanted.fingerprint, row.fingerprint) and wanted.fingerprint != row.fingerprint:
        raise KeyReused(f"{wanted.key!r} was done at {row.created_at:%Y-%m-%d %H:%M:%S} UTC.")
    return Found(row.result)


def finish(session: Session, claimed: Claim, result: bytes | None) -> bool:
    """Store what came of it, in the transaction that has claimed the key; False: it has not."""
    ours = (TABLE.c.id == claimed.id) & (TABLE.c.attempt == claimed.attempt)
    done: Any = session.execute(update(TABLE).where(ours).values(result=result))
    return bool(done.rowcount)


def purge(session: Session, limit: int) -> int:
    """Delete rows that were kept for long enough, and return how many."""
    time = now()
    old = select(TABLE.c.id).where(TABLE.c.expires_at <= time).order_by(TABLE.c.id).limit(limit)
    ids = list(session.execute(old).scalars())
    if not ids:
        return 0
    gone = delete(TABLE).where(TABLE.c.id.in_(ids), TABLE.c.expires_at <= time)
    result: Any = session.execute(gone)
    return int(result.rowcount)
