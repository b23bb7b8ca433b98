"""What is kept of a scope that has ended: one frozen record for each database it used.

`str(record)` is one line: outcome, reason, what was not stored, who was waited for, attempts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from dbscope.watch.parts import Statement, statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dbscope.watch.parts import Gap, HookRun, Savepoint, Sent, Transaction, Wait

__all__ = ["FIRST_ERROR", "NOT_STORED", "Record", "Statement", "amounts", "told"]

COMMITTED = "committed"
READ = "read"  # committed, and nothing was written
NOTHING = "nothing sent"  # only hooks were run, or something was waited for
ROLLED_BACK = "rolled back"
COMMIT_FAILED = "COMMIT failed"
UNKNOWN = "outcome unknown"
PARTLY = "partly committed"
NOT_STORED = frozenset({ROLLED_BACK, COMMIT_FAILED, UNKNOWN, PARTLY})
FIRST_ERROR = 400
WORTH_A_WORD = 0.05  # seconds of a gap or of a wait


class Late:
    """Something that is made when somebody wants to read it: most records nobody ever reads."""

    __slots__ = ("_known", "_make")

    _known: dict[str, Any]
    _make: Callable[[], Any] | None

    @classmethod
    def later(cls, make: Callable[[], Any], known: dict[str, Any]) -> Self:
        """Return one that is made by the function.

        Args:
            make: it.
            known: what is read of it before, which is no reason to make the rest.
        """
        late = object.__new__(cls)
        object.__setattr__(late, "_known", known)
        object.__setattr__(late, "_make", make)
        return late

    def __getattr__(self, name: str) -> Any:
        # Where a slot is empty. What was made twice, in two threads, is the same.
        if name in Late.__slots__ or name not in self.__slots__:
            raise AttributeError(name)
        if name in self._known:
            return self._known[name]
        make = self._make
        if make is not None:  # else another thread has made it meanwhile
            made = make()
            for each in self.__dataclass_fields__:
                object.__setattr__(self, each, getattr(made, each))
            object.__setattr__(self, "_make", None)
        return object.__getattribute__(self, name)


@dataclass(frozen=True, slots=True)
class Record(Late):
    """What one scope has done with one database; `str()` tells it in one line."""

    number: int
    kind: str  # request, tail, hook, scope, job, command, test, …
    name: str  # as messages call it
    route: str | None  # of a request: its template
    database: str
    began: float  # seconds since 1970
    seconds: float
    status: int | None  # of the answer
    outcome: str
    reason: str | None
    line: str | None  # of the reason
    sent: tuple[Sent, ...]  # see `statements`
    zero: float
    more: int  # statements beyond those that are kept
    transactions: tuple[Transaction, ...]
    savepoints: tuple[Savepoint, ...]
    waits: tuple[Wait, ...]
    gaps: tuple[Gap, ...]
    hooks: tuple[HookRun, ...]
    flushed: tuple[tuple[str, int, int, int], ...]  # model, new, changed, deleted
    pending: tuple[tuple[str, int], ...]  # model, objects that were never sent
    not_stored: tuple[tuple[str, int], ...]  # what, rows
    stored: tuple[tuple[str, int], ...]
    attempt: int
    before: tuple[str, ...]  # what the attempts before have failed by
    again: bool  # it is done again
    held: float  # seconds that a connection was held
    is_on_purpose: bool = False  # kept though the answer tells of an error
    problems: tuple[Any, ...] = ()

    @property
    def statements(self) -> tuple[Statement, ...]:
        """Return what was sent; put into words only for who wants to read it."""
        return tuple(statement(each, self.zero) for each in self.sent)

    @property
    def disagrees(self) -> bool:
        """Tell whether the answer says one thing and the database another."""
        if self.status is None:
            return False
        if self.status < FIRST_ERROR:
            return self.outcome in NOT_STORED and bool(self.not_stored or self.pending)
        return bool(self.stored) and not self.is_on_purpose

    def __str__(self) -> str:
        return told(self)


def told(record: Record) -> str:
    """Tell a record in one line."""
    return "; ".join([_end(record), *_work(record), *_waits(record), *_attempts(record)])


def _end(record: Record) -> str:
    told = record.outcome if record.reason is None else f"{record.outcome}, {record.reason}"
    return f"{told}, answered {record.status}" if record.disagrees else told


def _work(record: Record) -> Iterable[str]:
    if record.not_stored:
        kept = "may not be stored" if record.outcome == "outcome unknown" else "not stored"
        yield f"{amounts(record.not_stored)} {kept}"
    if record.pending:
        yield f"{amounts(record.pending)} never sent"
    if record.stored:
        yield f"{amounts(record.stored)} stored{_by_hand(record)}"
    for savepoint in record.savepoints:
        if savepoint.outcome == "rolled back" and record.outcome in {"committed", "read"}:
            why = f", {savepoint.reason}" if savepoint.reason else ""
            yield f"the savepoint of {savepoint.line} was rolled back{why}"
    if not (record.not_stored or record.pending or record.stored) and record.sent:
        number = len(record.sent) + record.more
        yield f"{number} statement{'' if number == 1 else 's'}"
    for hook in record.hooks:
        if hook.error is not None:
            yield f"the hook {hook.name} failed: {hook.error}"


def _by_hand(record: Record) -> str:
    stored = [each for each in record.transactions if each.outcome == "committed"]
    by_hand = [each.by_hand for each in stored if each.by_hand is not None]
    if not by_hand or len(by_hand) < len(stored):
        return ""
    return f" by hand at {by_hand[0]}" if by_hand[0] else " by hand"


def amounts(counted: Iterable[tuple[str, int]]) -> str:
    """Return `1 INSERT into orders and 2 UPDATE stock`."""
    *most, last = [f"{number} {what}" for what, number in counted]
    return f"{', '.join(most)} and {last}" if most else last


def _waits(record: Record) -> Iterable[str]:
    for wait in record.waits:
        if wait.whom or not wait.granted or wait.seconds >= WORTH_A_WORD:
            yield _wait(wait)
    if record.gaps:
        longest = max(record.gaps, key=lambda gap: gap.seconds)
        if longest.seconds >= WORTH_A_WORD:
            yield _gap(longest)


def _wait(wait: Wait) -> str:
    vain = "" if wait.granted else " in vain"
    told = f"waited{vain} {wait.seconds:.2f} s for {wait.what}"
    return f"{told}, held by {_among(wait.whom)}" if wait.whom else told


def _among(whom: tuple[str, ...]) -> str:
    more = len(whom) - 1
    return f"{whom[0]} and {more} other{'' if more == 1 else 's'}" if more else whom[0]


def _gap(gap: Gap) -> str:
    told = f"idle in its transaction for {gap.seconds:.2f} s after {gap.after}"
    return f"{told}, in {gap.awaited}" if gap.awaited else told


def _attempts(record: Record) -> Iterable[str]:
    if record.again:
        yield f"attempt {record.attempt}, done again"
    elif record.before:
        yield f"attempt {record.attempt}, after {', '.join(record.before)}"
