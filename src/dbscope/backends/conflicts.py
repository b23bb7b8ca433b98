"""Conflicts between transactions: what failed by one may succeed if all of it is done again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.exc import StaleDataError

from dbscope.backends.errors import SQLITE_BUSY, is_stale_plan, native_code, sqlstate
from dbscope.errors import (
    DatabaseUnavailable,
    DBScopeError,
    ImplicitCommit,
    PartialCommit,
    TransactionOutcomeUnknown,
)

# Two transactions met, one was rolled back, and would succeed if it came again: serialization
# failure and deadlock (PostgreSQL, "13.5. Serialization Failure Handling"). MariaDB's lock wait
# timeout, 1205, is not one: it has waited long enough, and has rolled back a statement only.
CONFLICTS = frozenset({"40001", "40P01"})

# MySQL and MariaDB, "Server Error Message Reference".
DEADLOCK = 1213
# Of a snapshot that is out of date: MariaDB's innodb_snapshot_isolation, on since 11.6.2
# (https://mariadb.com/docs/server/server-usage/storage-engines/innodb/innodb-system-variables).
CHANGED_SINCE_READ = 1020


def is_retryable(error: BaseException | None, also: Collection[str] = ()) -> bool:
    """Tell whether the work that failed may succeed if all of it is done again."""
    return conflict_of(error, also) is not None


def conflict_of(error: BaseException | None, also: Collection[str] = ()) -> str | None:
    """Return the code of the conflict with somebody else's transaction, None if it was none.

    Errors of ours and of SQLAlchemy stand for what caused them; any other stands for itself. If
    the outcome of a COMMIT is unknown, or part of the work is stored, nothing may be done again.

    Args:
        error: the error.
        also: codes that are taken for conflicts, too: SQLSTATEs, or numbers of MySQL's.
    """
    while isinstance(error, DBScopeError | DBAPIError):
        if isinstance(error, TransactionOutcomeUnknown | ImplicitCommit | PartialCommit):
            return None
        if isinstance(error, DatabaseUnavailable):
            return "DatabaseUnavailable" if error.nothing_was_stored else None
        error = error.orig if isinstance(error, DBAPIError) else error.__cause__
    if isinstance(error, StaleDataError):
        return "StaleDataError"
    state = sqlstate(error)
    if state in CONFLICTS or state in also or (error is not None and is_stale_plan(error)):
        return state
    return _native_conflict(error) or _listed(error, also)


def _listed(error: BaseException | None, also: Collection[str]) -> str | None:
    code = str(native_code(error))
    return code if code in also else None


def _native_conflict(error: Any) -> str | None:
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        return str(error.sqlite_errorname) if code & 0xFF == SQLITE_BUSY else None
    native = native_code(error)
    return str(native) if native in {DEADLOCK, CHANGED_SINCE_READ} else None
