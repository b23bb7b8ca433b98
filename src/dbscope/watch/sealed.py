"""What becomes of a draft when its scope is over: a record, made when somebody reads it."""

from __future__ import annotations

from collections import Counter
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbscope.watch import lines, records
from dbscope.watch.drafts import Draft, name_of, route_of
from dbscope.watch.parts import Savepoint, Transaction
from dbscope.watch.problems import of_scope
from dbscope.watch.records import Record

if TYPE_CHECKING:
    from dbscope.watch.drafts import Begun, Entered
    from dbscope.watch.parts import Sent

LIVE: dict[str, Any] = dict.fromkeys(("unit", "scope", "who", "current", "uncounted"))


def sealed(draft: Draft) -> Record:
    """Return the record of a draft that is over; it keeps nothing of the work alive."""
    ended, unit, scope = object.__new__(Draft), draft.unit, draft.scope
    ended.__dict__ = vars(draft) | LIVE
    draft.seen.seal()
    now = perf_counter()
    _end(ended, now)
    known = {  # what is counted of each record
        "number": ended.number,
        "kind": ended.kind,
        "name": name_of(scope),
        "route": route_of(scope),
        "began": ended.epoch,
        "seconds": now - ended.began,
        "status": ended.status,
        "outcome": outcome_of(ended),
        "sent": tuple(ended.statements),
        "more": ended.more,
        "again": ended.again,
    }
    return Record.later(partial(record, ended, unit.source.name, now, known), known)


def _end(draft: Draft, ended: float) -> None:
    if draft.swallowed is not None:
        draft.because(draft.swallowed)
    for each in draft.transactions:
        each.outcome = each.outcome or records.ROLLED_BACK
        each.ended = each.ended or ended


def record(draft: Draft, database: str, ended: float, known: dict[str, Any]) -> Record:
    """Return the record of a draft that is sealed.

    Args:
        draft: it.
        database: its name.
        ended: when its scope was over.
        known: the fields that are known already.
    """
    outcome, stored = known["outcome"], amounts(draft, stored=True)
    is_kept = outcome in {records.COMMITTED, records.READ, records.NOTHING}
    transactions = tuple(_transaction(each, draft.began) for each in draft.transactions)
    gaps = tuple(draft.gaps)
    return Record(
        **known,
        database=database,
        reason=None if is_kept and not draft.is_verified else draft.reason,
        line=lines.told(draft.line),
        zero=draft.began,
        transactions=transactions,
        savepoints=tuple(_savepoint(each, draft.began, ended) for each in draft.savepoints),
        waits=tuple(draft.waits),
        gaps=gaps,
        hooks=tuple(draft.hooks),
        flushed=_flushed(draft),
        pending=tuple(draft.pending.items()),
        not_stored=amounts(draft, stored=False),
        stored=stored,
        attempt=draft.attempt,
        before=draft.before,
        held=draft.held,
        is_on_purpose=draft.is_on_purpose,
        problems=(*draft.seen.problems(), *of_scope(draft.kind, gaps, transactions)),
    )


def outcome_of(draft: Draft) -> str:
    """Return what became of it, as a whole."""
    ends = [each.outcome for each in draft.transactions]
    if draft.is_partly:
        return records.PARTLY
    if records.UNKNOWN in ends:
        return records.UNKNOWN
    if draft.failed:
        return records.COMMIT_FAILED
    if (records.ROLLED_BACK in ends[-1:] and not _has_only_read(draft)) or draft.pending:
        return records.ROLLED_BACK
    if not ends:
        return records.NOTHING if draft.reason is None else records.ROLLED_BACK
    return records.COMMITTED if amounts(draft, stored=True) else records.READ


def _has_only_read(draft: Draft) -> bool:
    """Tell whether nothing was undone by a ROLLBACK that nobody has asked for."""
    return draft.reason is None and not amounts(draft, stored=False)


def is_stored(draft: Draft, sent: Sent) -> bool:
    """Tell whether what a statement has written is kept."""
    if sent.at_once:
        return True
    inside = sent.savepoint
    while inside is not None:
        if draft.savepoints[inside].outcome == records.ROLLED_BACK:
            return False
        inside = draft.savepoints[inside].around
    return draft.transactions[sent.transaction].outcome == records.COMMITTED


def amounts(draft: Draft, *, stored: bool) -> tuple[tuple[str, int], ...]:
    """Return what was written and is kept, or is not, as rows of each kind and table."""
    if not draft.writes:
        return ()
    counted: Counter[str] = Counter()
    for sent in draft.writes:
        wrote = sent.error is None and sent.rows != 0
        if wrote and is_stored(draft, sent) is stored:
            rows = 1 if sent.rows is None or sent.rows < 0 else sent.rows
            into = " into" if sent.sql.kind == "INSERT" else ""
            into = " from" if sent.sql.kind == "DELETE" else into
            counted[f"{sent.sql.kind}{into} {sent.sql.table or '?'}"] += rows
    return tuple(counted.items())


def _transaction(begun: Begun, zero: float) -> Transaction:
    ended = begun.ended or begun.began
    commit = None if begun.sent is None else ended - begun.sent
    by_hand = (lines.told(begun.by_hand) or "") if begun.is_by_hand else None
    outcome, at = begun.outcome or records.ROLLED_BACK, begun.began - zero
    return Transaction(at, ended - begun.began, outcome, by_hand, commit, begun.autocommit)


def _savepoint(entered: Entered, zero: float, over: float) -> Savepoint:
    ended = entered.ended or over
    at, line = entered.began - zero, lines.told(entered.line) or ""
    return Savepoint(at, ended - entered.began, line, entered.outcome, entered.reason)


def _flushed(draft: Draft) -> tuple[Any, ...]:
    models = {name: [0, 0, 0] for name, _ in draft.flushed}
    for (name, place), number in draft.flushed.items():
        models[name][place] = number
    return tuple((name, *numbers) for name, numbers in models.items())
