"""Who waits for a lock of whom, as PostgreSQL knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text

from dbscope.backends.lock_waits import LockWait, LockWaits

if TYPE_CHECKING:
    from sqlalchemy import Connection

# "9.27.1. Session Information Functions", and the view pg_locks. Who administers the server sees by
# the comment who asks: behind a pooler a name of the connection would become that of others.
ASK = text("""
/* dbscope watch */
SELECT waiting.pid AS waiter, holder.pid AS holder, holder.application_name AS application,
 holder.state AS state, extract(epoch FROM now() - holder.state_change) AS seconds,
 coalesce((SELECT relation::regclass::text FROM pg_locks
  WHERE pid = waiting.pid AND relation IS NOT NULL AND locktype IN ('tuple', 'relation')
  ORDER BY locktype DESC, granted LIMIT 1), '') AS relation, waiting.wait_event AS kind
FROM pg_stat_activity AS waiting,
 unnest(pg_blocking_pids(waiting.pid)) AS blocking(pid)
 JOIN pg_stat_activity AS holder ON holder.pid = blocking.pid
WHERE waiting.pid IN :pids AND waiting.wait_event_type = 'Lock'
""").bindparams(bindparam("pids", expanding=True))


class PostgreSQLLockWaits(LockWaits):
    """The one who asks, by psycopg."""

    driver = "postgresql+psycopg"

    def found(self, connection: Connection, processes: list[int]) -> list[LockWait]:
        """Return what the server says."""
        rows = connection.execute(ASK, {"pids": processes}).all()
        return [LockWait(row.waiter, row.holder, what(row), holder(row)) for row in rows]


def what(row: Any) -> str:
    """Name what is waited for; `transactionid` is a row that another transaction has changed."""
    kind = "a row" if row.kind in {"transactionid", "tuple"} else f"the {row.kind} lock"
    return f"{kind} of {row.relation}" if row.relation else kind


def holder(row: Any) -> str:
    """Name a process that is none of ours."""
    name = row.application or "another program"
    return f"{name} (process {row.holder}, {row.state} for {row.seconds:.1f} s)"
