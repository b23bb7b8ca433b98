"""What the routes have done lately, minute by minute: how often, how long, and what was not kept.

It is counted by the thread that looks around, from the ring; whoever works does nothing for it.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from math import log
from typing import TYPE_CHECKING, Any

from dbscope.watch.records import NOT_STORED, ROLLED_BACK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbscope.watch.kept import Kept
    from dbscope.watch.records import Record

MINUTES = 30  # that are kept
MOST = 200  # routes; what comes later is counted as one
REASONS = 20  # of one route
OTHERS = "(others)"
FAILED = 500  # status
STEP = 1.1  # between two sizes that a duration is counted as: percentiles are right to 5 %
QUIET = 300.0  # seconds without a rollback, after which the next one begins anew


@dataclass(slots=True)
class Minute:
    """One minute of one route."""

    minute: int  # since 1970
    times: int = 0
    lost: int = 0  # rolled back, COMMIT failed, …
    disagree: int = 0
    statements: int = 0
    took: Counter[int] = field(default_factory=Counter[int])  # powers of STEP, of a second


@dataclass(slots=True)
class Route:
    """One route, or another piece of work that comes again."""

    minutes: deque[Minute] = field(default_factory=lambda: deque[Minute](maxlen=MINUTES))
    since: float | None = None  # the first rollback after a quiet time
    last: float = 0.0  # rollback
    slowest: tuple[int, float] = (0, 0.0)  # number of the record, seconds
    reasons: Counter[str] = field(default_factory=Counter[str])

    def count(self, record: Record) -> None:
        """Count one record."""
        minute = int(record.began // 60)
        if not self.minutes or self.minutes[-1].minute < minute:
            self.minutes.append(Minute(minute))
        now = self.minutes[-1]
        now.times += 1
        now.disagree += record.disagrees
        now.statements += len(record.sent) + record.more
        now.took[round(log(max(record.seconds, 1e-6), STEP))] += 1
        if record.seconds > self.slowest[1]:
            self.slowest = (record.number, record.seconds)
        if is_lost(record):
            now.lost += 1
            self._lose(record)

    def _lose(self, record: Record) -> None:
        if self.since is None or record.began - self.last > QUIET:
            self.since = record.began
            self.reasons.clear()
        self.last = record.began
        told = f"{record.outcome}, {record.reason}" if record.reason else record.outcome
        if told in self.reasons or len(self.reasons) < REASONS:
            self.reasons[told] += 1

    def told(self, name: str) -> dict[str, Any]:
        """Return it as plain values."""
        minutes = [
            [each.minute, each.times, each.lost, each.disagree, each.statements, dict(each.took)]
            for each in tuple(self.minutes)
        ]
        return {
            "name": name,
            "minutes": minutes,
            "since": self.since,
            "last": self.last,
            "slowest": self.slowest,
            "reasons": Counter(dict(self.reasons)).most_common(3),
        }


class Tally:
    """All routes of one recorder.

    Args:
        recorder: whose records are counted.
    """

    def __init__(self, recorder: Kept) -> None:
        self.recorder = recorder
        self.routes: dict[str, Route] = {}
        self._last: Record | None = None

    def look(self) -> Sequence[Record]:
        """Count what is new, and return it."""
        found = newer(self.recorder, None if self._last is None else self._last.number)
        for record in found:
            name = work_of(record)
            if name not in self.routes and len(self.routes) >= MOST:
                name = OTHERS
            self.routes.setdefault(name, Route()).count(record)
        if found:
            self._last = found[-1]
        return found

    def told(self) -> list[dict[str, Any]]:
        """Return the routes as plain values."""
        return [route.told(name) for name, route in tuple(self.routes.items())]


def newer(recorder: Kept, number: int | None) -> list[Record]:
    """Return the records that came after the one of this number, the oldest first; else all."""
    found: list[Record] = []
    for record in reversed(list(recorder.ring)):
        if record.number == number:
            break
        found.append(record)
    return found[::-1]


def is_lost(record: Record) -> bool:
    """Tell whether work is not kept, and is not done again; who found nothing has lost nothing."""
    if record.outcome not in NOT_STORED or record.again:
        return False
    is_found_nothing = record.outcome == ROLLED_BACK and (record.status or FAILED) < FAILED
    return bool(record.not_stored or record.pending) or not is_found_nothing


def work_of(record: Record) -> str:
    """Return what is the same for work that comes again: its route, or where it is opened."""
    name = record.route or record.name.removeprefix("the scope opened at ")
    return name if record.kind == "request" else f"{record.kind} {name}"
