"""Who waits for a lock of whom, as PostgreSQL knows: asked on a connection of its own."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, create_engine, text
from sqlalchemy.pool import NullPool

from dbscope.backends.lock_waits import LockWait

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import URL, Connection, Engine

# "9.27.1. Session Information Functions", and the view pg_locks.
ASK = text("""
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


class LockWaits:
    """The one who asks; from a thread that may wait.

    Args:
        url: of the database, whatever its driver.
        options: of its engine.
    """

    def __init__(self, url: URL, options: dict[str, Any]) -> None:
        plain = url.set(drivername="postgresql+psycopg")
        given: Any = options.get("connect_args", {}) if "psycopg" in url.drivername else {}
        self._engine: Engine = create_engine(
            plain, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=given
        )
        self._connection: Connection | None = None

    def ask(self, processes: Collection[int]) -> list[LockWait]:
        """Return who of these processes waits, and for whom."""
        if self._connection is None:
            self._connection = self._engine.connect()
        rows = self._connection.execute(ASK, {"pids": list(processes)}).all()
        return [LockWait(row.waiter, row.holder, what(row), holder(row)) for row in rows]

    def close(self) -> None:
        """Ask no more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def what(row: Any) -> str:
    """Name what is waited for; `transactionid` is a row that another transaction has changed."""
    kind = "a row" if row.kind in {"transactionid", "tuple"} else f"the {row.kind} lock"
    return f"{kind} of {row.relation}" if row.relation else kind


def holder(row: Any) -> str:
    """Name a process that is none of ours."""
    name = row.application or "another program"
    return f"{name} (process {row.holder}, {row.state} for {row.seconds:.1f} s)"


def is_possible() -> bool:
    """Tell whether there is a driver that a thread can ask by."""
    return find_spec("psycopg") is not None
