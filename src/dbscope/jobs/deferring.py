"""Jobs of Procrastinate that are stored by a session of ours, in its transaction.

Its workers find them in the database, so a job that is stored there with the work is there exactly
if the work is. Its own connectors have a pool, or want the connection of a driver that is theirs;
here it is a session, whatever its driver is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from procrastinate.connector import BaseConnector
from procrastinate.exceptions import UniqueViolation
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dbscope import TransactionRequired
from dbscope.jobs.databases import AnyDatabase, plain, waiting

Rows = list[dict[str, Any]]
JOBS = re.compile(r"%\(jobs\)s::(\w+)\[\]")
# An array of rows, which each driver would want in another way, as one text.
FROM_JSON = r"""ARRAY(
  SELECT job FROM jsonb_populate_recordset(CAST(NULL AS \1), CAST(:jobs AS jsonb)) AS job
)"""


class InTransaction(BaseConnector):
    """What stores the jobs; it does nothing else.

    Args:
        db: the database, of either kind.
        dumps: makes JSON of the arguments of a job.
    """

    def __init__(self, db: AnyDatabase, dumps: Callable[[Any], str]) -> None:
        self.db = db
        self.dumps = dumps

    def get_sync_connector(self) -> InTransaction:
        """Return what plain code uses."""
        return self

    def execute_query_all(self, query: str, **arguments: Any) -> Rows:
        """Store jobs by the session of plain code."""
        db = plain(self.db)
        return self._store(checked(db).session, query, **arguments)

    async def execute_query_all_async(self, query: str, **arguments: Any) -> Rows:
        """Store jobs by the session of async code."""
        db = waiting(self.db)
        session: Any = checked(db).session
        rows: Rows = await session.run_sync(self._store, query, **arguments)
        return rows

    def _store(self, session: Session, query: str, jobs: list[Any]) -> Rows:
        sql, count = JOBS.subn(FROM_JSON, query)
        assert count == 1, query
        values = [job._asdict() | {"args": json.loads(self.dumps(job.args))} for job in jobs]
        connection = session.connection()  # by which it is known to write
        try:
            stored = connection.execute(text(sql), {"jobs": json.dumps(values, default=str)})
        except IntegrityError as error:
            name = constraint_of(error)
            lock = jobs[0].queueing_lock
            raise UniqueViolation(constraint_name=name, queueing_lock=lock) from error
        return [dict(row) for row in stored.mappings()]


def checked(db: Any) -> Any:
    """Return the database if it is in a transaction.

    Raises:
        TransactionRequired: it is not.
    """
    if not db.in_transaction():
        raise TransactionRequired("A job was to be stored with the work:")
    return db


def constraint_of(error: IntegrityError) -> str | None:
    """Return the name of the constraint, as one driver or the other tells it."""
    told = [error.orig, getattr(error.orig, "diag", None), getattr(error.orig, "__cause__", None)]
    names = [getattr(each, "constraint_name", None) for each in told]
    return next(filter(None, names), None)
