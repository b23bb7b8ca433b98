"""Who waits for a lock of whom, as InnoDB knows in MariaDB; its tables want the right PROCESS."""

from __future__ import annotations

import random
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text

from dbscope.backends.lock_waits import LockWait, LockWaits

if TYPE_CHECKING:
    from sqlalchemy import Connection

ASK = text("""
/* dbscope watch */
SELECT waiting.trx_mysql_thread_id AS waiter, holding.trx_mysql_thread_id AS holder,
 wanted.lock_type AS kind, wanted.lock_table AS name, process.command AS command,
 process.time_ms / 1000 AS seconds
FROM information_schema.innodb_lock_waits AS waits
 JOIN information_schema.innodb_trx AS waiting ON waiting.trx_id = waits.requesting_trx_id
 JOIN information_schema.innodb_trx AS holding ON holding.trx_id = waits.blocking_trx_id
 JOIN information_schema.innodb_locks AS wanted ON wanted.lock_id = waits.requested_lock_id
 LEFT JOIN information_schema.processlist AS process
  ON process.id = holding.trx_mysql_thread_id
 JOIN information_schema.processlist AS asking ON asking.id = waiting.trx_mysql_thread_id
WHERE asking.id IN :threads
 AND left(asking.info, 200) = left(waiting.trx_query, 200)
 AND waiting.trx_wait_started >= now() - INTERVAL asking.time_ms / 1000 + 1 SECOND
""").bindparams(bindparam("threads", expanding=True))
SYSTEM = text("SET time_zone = 'SYSTEM'")  # that of InnoDB's times
# InnoDB makes its tables anew when nobody, of all clients, has read them for 0.1 s: who asks more
# often is told the same for ever, and so are all who ask. So a wait may be one of before, and
# counts only if it is of the statement that the waiter is in by now.
LEAST, MOST = 0.12, 0.4  # seconds between two questions; by chance, since others ask too


class MySQLLockWaits(LockWaits):
    """The one who asks, by PyMySQL; MySQL has other tables, and is not asked."""

    driver = "mysql+pymysql"
    _next = 0.0

    def found(self, connection: Connection, processes: list[int]) -> list[LockWait]:
        """Return what the server says, if it is time to ask."""
        if not getattr(connection.dialect, "is_mariadb", False) or monotonic() < self._next:
            return []
        connection.execute(SYSTEM)
        rows = connection.execute(ASK, {"threads": processes}).all()
        self._next = monotonic() + random.uniform(LEAST, MOST)  # noqa: S311
        return [told(row) for row in rows]


def told(row: Any) -> LockWait:
    """Return one wait."""
    table = str(row.name).rpartition(".")[2].strip("`")
    what = f"a row of {table}" if row.kind == "RECORD" else f"the lock of {table}"
    doing = "idle in transaction" if row.command == "Sleep" else "busy"
    since = "" if row.seconds is None else f", {doing} for {float(row.seconds):.1f} s"
    return LockWait(row.waiter, row.holder, what, f"another program (process {row.holder}{since})")
