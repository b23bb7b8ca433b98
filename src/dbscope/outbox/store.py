"""The rows of the messages: stored with the work, taken by a relay, and what became of them.

Plain functions over a plain session; async code carries them in a greenlet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, delete, exists, func, or_, select, update

from dbscope.outbox.table import NAME, TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

CHANNEL = NAME  # by which relays are told of new messages
LONGEST_ERROR = 2000  # characters


def now() -> datetime:
    """Return the time in UTC, as the table has it."""
    return datetime.now(UTC).replace(tzinfo=None)


def add(session: Session, values: dict[str, Any], notifying: Callable[[Any, str], Any]) -> None:
    """Store a message.

    Args:
        session: in a transaction.
        values: of its row.
        notifying: given the INSERT and the channel, returns one that tells who listens.
    """
    session.execute(notifying(TABLE.insert().values(values), CHANNEL)).close()


def take(session: Session, limit: int, *, lock: bool) -> list[Row[Any]]:
    """Return messages that are due, in their order; of each key the first ones.

    The first message of a key stands for all of them: who has locked it has the key.

    Args:
        session: in a transaction, which holds them.
        limit: how many at most.
        lock: several may take at once: pass over what somebody else has.
    """
    first = _due().limit(limit)
    heads = list(session.execute(first.with_for_update(skip_locked=True) if lock else first))
    keys = [row.key for row in heads if row.key is not None]
    left = limit - len(heads)
    if not keys or left <= 0:
        return heads
    ids = [row.id for row in heads]
    behind = (
        select(TABLE)
        .where(TABLE.c.key.in_(keys), TABLE.c.id.not_in(ids), TABLE.c.dead_at.is_(None))
        .order_by(TABLE.c.id)
        .limit(left)
    )
    return sorted([*heads, *session.execute(behind)], key=lambda row: row.id)


def _due() -> Select[Any]:
    before = TABLE.alias()
    is_behind = exists().where(
        before.c.key == TABLE.c.key, before.c.id < TABLE.c.id, before.c.dead_at.is_(None)
    )
    return (
        select(TABLE)
        .where(TABLE.c.dead_at.is_(None), TABLE.c.available_at <= now())
        .where(or_(TABLE.c.key.is_(None), ~is_behind))
        .order_by(TABLE.c.id)
    )


@dataclass(slots=True)
class Report:
    """What became of the messages of a batch.

    Args:
        published: their ids.
        failed: the rows, and why.
    """

    published: list[int] = field(default_factory=list[int])
    failed: list[tuple[Any, str]] = field(default_factory=list[tuple[Any, str]])

    def blocked(self) -> set[str]:
        """Return the keys whose next messages have to wait."""
        return {row.key for row, _ in self.failed if row.key is not None}


def settle(
    session: Session, report: Report, *, attempts: int, backoff: Callable[[int], float]
) -> None:
    """Delete what was published; note of the rest why, and when it is tried again.

    Args:
        session: in a transaction.
        report: what became of them.
        attempts: after as many it is dead.
        backoff: seconds until the next attempt, by the number of those that failed.
    """
    if report.published:
        session.execute(delete(TABLE).where(TABLE.c.id.in_(report.published)))
    for row, why in report.failed:
        tried, time = row.attempts + 1, now()
        again = time + timedelta(seconds=backoff(tried))
        noted = {
            "attempts": tried,
            "last_error": why[:LONGEST_ERROR],
            "available_at": again,
            "dead_at": time if tried >= attempts else None,
        }
        session.execute(update(TABLE).where(TABLE.c.id == row.id).values(noted))


def dead(session: Session) -> Sequence[Row[Any]]:
    """Return the messages that have failed too often."""
    return session.execute(
        select(TABLE).where(TABLE.c.dead_at.is_not(None)).order_by(TABLE.c.id)
    ).all()


def revive(session: Session) -> int:
    """Let the dead be tried again, from the beginning; return how many."""
    fresh = {"dead_at": None, "attempts": 0, "available_at": now()}
    result: Any = session.execute(update(TABLE).where(TABLE.c.dead_at.is_not(None)).values(fresh))
    return int(result.rowcount)


def waiting(session: Session) -> int:
    """Return how many messages are still to be relayed."""
    return int(session.scalar(select(func.count()).where(TABLE.c.dead_at.is_(None))) or 0)
