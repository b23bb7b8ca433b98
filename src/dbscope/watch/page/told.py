"""Records as the page is told of them: in a list by their line, and in full."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbscope.watch.records import Record, Statement
    from dbscope.watch.watcher import Watch


def summary(record: Record) -> dict[str, Any]:
    """Return what a list shows."""
    return {
        "number": record.number,
        "kind": record.kind,
        "name": record.name,
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
        "problems": len(record.problems),
        "again": record.again,
        "attempt": record.attempt,
    }


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
        "lost": record.not_stored,
        "before": record.before,
        "found": [problem(each) for each in record.problems],
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


def problem(found: Any) -> dict[str, Any]:
    """Return a problem, in parts and as one line."""
    return asdict(found) | {"told": str(found)}


def now(watch: Watch, pid: int) -> dict[str, Any]:
    """Return what goes on at this moment: who holds a connection, and who waits for whom."""
    stats = watch.stats()
    return {
        "pid": pid,
        "holders": watch.holders(),
        "waiting": watch.waiting(),
        "pool": {"out": stats["pool_checked_out"], "size": stats["pool_size"]},
        "counters": {name: number for name, number in stats.items() if number},
    }
