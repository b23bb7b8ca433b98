"""Records, and what goes on, as others are told of them: plain values for JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbscope.watch import lines
from dbscope.watch.drafts import name_of, route_of
from dbscope.watch.tally import is_lost

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbscope.watch.drafts import Draft
    from dbscope.watch.findings import Findings
    from dbscope.watch.problems import Problem
    from dbscope.watch.records import Record, Statement


def summary(record: Record) -> dict[str, Any]:
    """Return what a list shows."""
    return {
        "number": record.number,
        "kind": record.kind,
        "name": short(record.name),
        "route": record.route,
        "status": record.status,
        "outcome": record.outcome,
        "line": str(record),
        "began": record.began,
        "seconds": record.seconds,
        "held": record.held,
        "waited": sum(wait.seconds for wait in record.waits),
        "statements": len(record.sent) + record.more,
        "disagrees": record.disagrees,
        "lost": is_lost(record),
        "problems": len(record.problems),
        "again": record.again,
        "attempt": record.attempt,
    }


def short(name: str) -> str:
    """Return what a scope is called where its kind is said beside it."""
    return name.removeprefix("the scope opened at ")


def details(record: Record) -> dict[str, Any]:
    """Return all that is known of a record."""
    return summary(record) | {
        "database": record.database,
        "reason": record.reason,
        "at": record.line,
        "sent": [_statement(each) for each in record.statements],
        "more": record.more,
        "transactions": [asdict(each) for each in record.transactions],
        "savepoints": [asdict(each) for each in record.savepoints],
        "waits": [asdict(each) for each in record.waits],
        "gaps": [asdict(each) for each in record.gaps],
        "hooks": [asdict(each) for each in record.hooks],
        "flushed": record.flushed,
        "pending": record.pending,
        "stored": record.stored,
        "not_stored": record.not_stored,
        "before": record.before,
        "found": [asdict(each) | {"told": str(each)} for each in record.problems],
    }


def _statement(sent: Statement) -> dict[str, Any]:
    return {
        "kind": sent.sql.kind,
        "table": sent.sql.table,
        "sql": sent.sql.text,
        "at": sent.at,
        "seconds": sent.seconds,
        "rows": sent.rows,
        "line": sent.line,
        "transaction": sent.transaction,
        "savepoint": sent.savepoint,
        "error": sent.error,
        "values": sent.values,
    }


def problems(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return the problems of records, each once: at its worst, and in how many records it is."""
    counted: Counter[object] = Counter()
    worst: dict[object, Problem] = {}
    routes: dict[object, set[str]] = {}
    for record in records:
        for problem in record.problems:
            place = problem.place
            counted[place] += 1
            routes.setdefault(place, set()).add(record.route or record.name)
            if place not in worst or worst[place].times < problem.times:
                worst[place] = problem
    return [
        asdict(worst[place])
        | {"told": str(worst[place]), "seen": seen, "routes": sorted(routes[place])[:5]}
        for place, seen in counted.most_common()
    ]


def now(watch: Findings) -> dict[str, Any]:
    """Return what goes on at this moment: who holds a connection, and who waits for whom."""
    stats, recorder = watch.stats(), watch.recorder
    held = [] if recorder is None else recorder.holders(None)
    drafts = () if recorder is None else tuple(recorder.drafts.values())
    return {
        "holders": [_holder(draft) for draft in held],
        "waiting": [told for draft in drafts if (told := _waiting(draft)) is not None],
        "pool": {"out": stats["pool_checked_out"], "size": stats["pool_size"]},
        "counters": {name: number for name, number in stats.items() if number},
    }


def _holder(draft: Draft) -> dict[str, Any]:
    now = perf_counter()
    current, idle = draft.current, draft.idle_since
    line = draft.idle_line if current is None else current.line
    since = (idle or now) if current is None else current.began
    return {
        "number": draft.number,
        "kind": draft.kind,
        "name": route_of(draft.scope) or short(name_of(draft.scope)),
        "server": draft.unit.source.watching.process_of(draft.unit),
        "held": now - (draft.held_since or now),
        "doing": "idle" if current is None else current.sql.kind,
        "seconds": now - since,
        "line": lines.told(line),
        "awaited": draft.awaited if current is None else None,
    }


def _waiting(draft: Draft) -> dict[str, Any] | None:
    waiting = draft.waiting  # of another thread, which may just get what it waits for
    if waiting is None:
        return None
    what, since, whom, line = waiting
    return {
        "number": draft.number,
        "kind": draft.kind,
        "name": route_of(draft.scope) or short(name_of(draft.scope)),
        "what": what,
        "seconds": perf_counter() - since,
        "whom": list(whom),
        "line": lines.told(line),
    }
