"""A record in one line: outcome, reason, what was not stored, who was waited for, attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbscope.watch.records import Gap, Record, Wait

WORTH_A_WORD = 0.05  # seconds of a gap or of a wait


def line(record: Record) -> str:
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
