"""Errors by meaning: SQLSTATE or native code, never the words of a message."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.exc import StaleDataError

from dbscope.errors import (
    DatabaseUnavailable,
    DBScopeError,
    ImplicitCommit,
    PartialCommit,
    TransactionOutcomeUnknown,
)
from dbscope.unit.ending import OUTCOME_OPEN

# PostgreSQL, "Appendix A. PostgreSQL Error Codes": connection exceptions (class 08), too many
# connections, a database that takes none (55000, when connecting), and the server shutting down,
# crashed or still starting (57P01 to 57P03).
AWAY = frozenset({"53300", "55000", "57P01", "57P02", "57P03"})
READ_ONLY_TRANSACTION = "25006"
QUERY_CANCELED = "57014"
PRIMARY = 0xFF  # of SQLite's extended result codes (https://sqlite.org/rescode.html)

# Two transactions met, one was rolled back, and would succeed if it came again: serialization
# failure and deadlock (PostgreSQL, "13.5. Serialization Failure Handling"). MariaDB's lock wait
# timeout, 1205, is not one: it has waited long enough, and has rolled back a statement only.
CONFLICTS = frozenset({"40001", "40P01"})
SQLITE_BUSY = 5  # and its kin, SQLITE_BUSY_SNAPSHOT for one, which add to it in the higher byte

# MySQL and MariaDB, "Server Error Message Reference" and "Client Error Message Reference".
DEADLOCK = 1213
# Connecting: too many connections, of all or of this user; a host that failed too often; nobody
# there, or the connection was lost.
MYSQL_AWAY = frozenset({1040, 1129, 1203, 1226, 2002, 2003, 2005, 2006, 2013, 2055})
# A connection that the server is ending: shutting down, giving up, killed. SQLAlchemy knows more.
MYSQL_GONE = frozenset({1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 3169})


# What MySQL and MariaDB say at COMMIT of a transaction that is certainly not stored: a Galera node
# without its cluster, a cache that is too small, somebody else's locks, a deadlock or a conflict
# between nodes, a server or transaction that is read-only, a refusal of the group. All else is
# open: an "error during COMMIT" (1180) may come when the others have stored it.
MYSQL_NOT_STORED = frozenset({1047, 1197, 1205, 1213, 1290, 1792, 1836, 3100, 3101})


def leaves_open(error: BaseException | None) -> bool:
    """Tell whether an error that a server answers to COMMIT leaves open what became of it."""
    code = native_code(error)
    if code is not None:
        return code not in MYSQL_NOT_STORED
    return sqlstate(error) in OUTCOME_OPEN


def native_code(error: BaseException | None) -> int | None:
    """Return the number of an error of MySQL or MariaDB."""
    if error is None or isinstance(error, OSError) or not error.args:
        return None
    code = error.args[0]
    return code if isinstance(code, int) else None


def is_gone(error: BaseException) -> bool:
    """Tell whether an error of MySQL or MariaDB says that the connection is over."""
    return native_code(error) in MYSQL_GONE


def sqlstate(error: BaseException | None) -> str | None:
    """Return the five characters of SQLSTATE, where the driver gives them."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


# ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION; ER_QUERY_INTERRUPTED, and a statement that took longer
# than it may: MariaDB's ER_STATEMENT_TIMEOUT, MySQL's ER_QUERY_TIMEOUT.
MYSQL_READ_ONLY = 1792
MYSQL_INTERRUPTED = frozenset({1317, 1969, 3024})


def is_refused_write(error: BaseException | None) -> bool:
    """Tell whether the database refused to write in what is read-only."""
    if sqlstate(error) == READ_ONLY_TRANSACTION or native_code(error) == MYSQL_READ_ONLY:
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & PRIMARY == sqlite3.SQLITE_READONLY


def is_interrupted(error: BaseException | None) -> bool:
    """Tell whether the database ended a statement because it was asked to."""
    code = getattr(error, "sqlite_errorcode", None)
    if sqlstate(error) == QUERY_CANCELED or native_code(error) in MYSQL_INTERRUPTED:
        return True
    return code == sqlite3.SQLITE_INTERRUPT


def is_away(error: BaseException) -> bool:
    """Tell whether an error of connecting says that the database cannot be reached now."""
    if isinstance(error, DBAPIError):
        error = error.orig or error
    state, code = sqlstate(error), native_code(error)
    if code is not None:
        return code in MYSQL_AWAY or code in MYSQL_GONE
    if state is not None:
        return state in AWAY or state.startswith("08")
    if isinstance(error, OSError | TimeoutError):
        return True
    return type(error).__name__ in {"OperationalError", "InterfaceError", "InternalClientError"}


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
    if state in CONFLICTS or state in also:
        return state
    return _native_conflict(error) or _listed(error, also)


def _listed(error: BaseException | None, also: Collection[str]) -> str | None:
    code = str(native_code(error))
    return code if code in also else None


def _native_conflict(error: Any) -> str | None:
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        return str(error.sqlite_errorname) if code & 0xFF == SQLITE_BUSY else None
    return str(DEADLOCK) if native_code(error) == DEADLOCK else None
