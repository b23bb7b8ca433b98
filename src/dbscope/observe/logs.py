"""A structured log: one record of `logging` for each scope, and a formatter that makes it JSON."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dbscope.observe.attaching import AnyDatabase, all_of
from dbscope.watch import records

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.watch.records import Record

__all__ = ["JSONFormatter", "install"]

LOGGER = "dbscope.scopes"
BAD = frozenset({records.COMMIT_FAILED, records.UNKNOWN, records.PARTLY})


def install(*databases: AnyDatabase, logger: str = LOGGER) -> Callable[[], None]:
    """Log one line for each scope from now on; the watch is started for that.

    The message is the one line of the record. Its figures are in the attribute `dbscope` of the
    `LogRecord`, a dictionary that always has the same keys (see `fields_of`). What is kept is INFO;
    WARNING: the answer disagrees with the database, COMMIT failed, or nobody knows.

    Args:
        *databases: either kind; its companion is logged as well.
        logger: the name to log under.

    Returns:
        What ends it; the watch goes on. Where that is stopped, nothing is logged until its next
        start.

    Example:
        >>> handler = logging.StreamHandler()
        >>> handler.setFormatter(logs.JSONFormatter())
        >>> logging.getLogger("dbscope").addHandler(handler)
        >>> logs.install(db)
    """
    lines = Lines(logging.getLogger(logger))
    return all_of([_install(each, lines) for each in databases])


def _install(database: AnyDatabase, lines: Lines) -> Callable[[], None]:
    watch = database.watch
    for each in tuple(watch.told):
        if isinstance(each, Lines):
            watch.forget(each)
    watch.on_record(lines)
    return lambda: watch.forget(lines)


class Lines:
    """Logs records.

    Args:
        log: where.
    """

    def __init__(self, log: logging.Logger) -> None:
        self.log = log

    def __call__(self, record: Record) -> None:
        """Log one."""
        is_bad = record.disagrees or record.outcome in BAD
        level = logging.WARNING if is_bad else logging.INFO
        if self.log.isEnabledFor(level):
            self.log.log(level, "%s", record, extra={"dbscope": fields_of(record)})


def fields_of(record: Record) -> dict[str, Any]:
    """Return the figures of a record; times are in seconds.

    Args:
        record: of the watch.

    Returns:
        Always the same keys, of which none is taken away or renamed.
    """
    return {
        "database": record.database,
        "kind": record.kind,
        "scope": record.name,
        "route": record.route,
        "status": record.status,
        "outcome": record.outcome,
        "reason": record.reason,
        "line": record.line,
        "disagrees": record.disagrees,
        "stored": dict(record.stored),
        "not_stored": dict(record.not_stored),
        "never_sent": dict(record.pending),
        "statements": len(record.sent) + record.more,
        "seconds": round(record.seconds, 6),
        "held": round(record.held, 6),
        "waited": round(sum(wait.seconds for wait in record.waits), 6),
        "attempt": record.attempt,
        "again": record.again,
        "problems": [str(problem) for problem in record.problems],
    }


class JSONFormatter(logging.Formatter):
    """Makes one line of JSON of whatever is logged, in UTC.

    The keys are `time`, `level`, `logger` and `message`, then those of `fields_of` for a scope, and
    `error` where there is a traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= getattr(record, "dbscope", {})
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)
