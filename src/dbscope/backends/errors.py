"""Errors by meaning: SQLSTATE or native code, never the words of a message."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError

from dbscope.errors import (
    DatabaseUnavailable,
)
from dbscope.unit.commit import OUTCOME_OPEN

# PostgreSQL, "Appendix A. PostgreSQL Error Codes": connection exceptions (class 08), too many
# connections, a database that takes none (55000, when connecting), and the server shutting down,
# crashed or still starting (57P01 to 57P03).
AWAY = frozenset({"53300", "55000", "57P01", "57P02", "57P03"})
# A server that is ending, was dropped, or is not ready, says so to a statement, too.
ENDING = frozenset({"57P01", "57P02", "57P03", "57P04", "57P05"})
READ_ONLY_TRANSACTION = "25006"
FAILED_TRANSACTION = "25P02"
NOT_PREPARED = "26000"
NOT_SUPPORTED = "0A000"
INTERNAL_ERROR = "XX000"
# Where PostgreSQL looks up the types of a plan; one that was dropped and made anew is another one.
TYPES = frozenset({"lsyscache.c", "tupdesc.c", "typcache.c", "format_type.c", "parse_type.c"})
PROTOCOL_VIOLATION = "08P01"
# Who may connect, and to what: no such role or wrong password (class 28), no such database, no
# right to it, a setting that there is not or that has no such value.
PERMANENT = frozenset({"28000", "28P01", "3D000", "42501", "42704", "22023", NOT_SUPPORTED})
# PgBouncer has one code for all that it says by itself (until 1.20), and libpq has none for what a
# server says to who wants to connect; the words are mostly English.
PERMANENT_WORDS = re.compile(
    "no such (database|user)|does not exist|authentication failed|auth failed|login rejected"
    "|unsupported startup parameter|bouncer config error|SSL required"
    r"|invalid \w+ value|invalid command-line argument|does not support SSL"
)
# asyncpg says so of any answer but the one byte that it waits for: also of a server that has no TLS
# and says in the same breath that it is ending.
NO_TLS = "rejected SSL upgrade"
QUERY_CANCELED = "57014"
# In the info of a connection: a transaction had failed there before this one began.
LEFT_OVER = "dbscope.left_over"
# An execution option of engines whose owner says more about a lost connection than we could.
TOLD_BY_OWNER = "dbscope_told_by_owner"
PRIMARY = 0xFF  # of SQLite's extended result codes (https://sqlite.org/rescode.html)

SQLITE_BUSY = 5  # and its kin, SQLITE_BUSY_SNAPSHOT for one, which add to it in the higher byte

# MySQL and MariaDB, "Server Error Message Reference" and "Client Error Message Reference".
# Connecting: too many connections, of all or of this user; a host that failed too often; nobody
# there, or the connection was lost.
MYSQL_AWAY = frozenset({1040, 1129, 1203, 1226, 2002, 2003, 2005, 2006, 2013, 2055})
# Who may connect, and to what: access denied, no such database or host, an account that is locked
# or whose password has expired, a plugin or an encryption that both sides do not have.
MYSQL_PERMANENT = frozenset(
    {1044, 1045, 1049, 1130, 1251, 1275, 1698, 1820, 1862, 2026, 2059, 2061, 3118, 3159, 4151}
    | {1115, 1193, 1231, 1273}  # no such character set, setting, value of one, collation
)
# A server that cannot serve now: a node of Galera that has lost its cluster; in read-only mode;
# offline. And one that was started with an option that forbids it: with --read-only, say.
MYSQL_CANNOT_SERVE = frozenset({1047, 1836, 3032})
MYSQL_FORBIDDEN_BY_OPTION = 1290
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
    if state is None and error is not None:  # SQLAlchemy's adapter forgets that of some errors
        state = getattr(error.__cause__, "sqlstate", None)
    return state if isinstance(state, str) else None


def is_stale_plan(error: BaseException) -> bool:
    """Tell whether the server does not take a prepared statement any more.

    "cached plan must not change result type" is one of many that it does not support, and "cache
    lookup failed for type" is one of all that should not happen; their place in the server's source
    tells them apart, whatever the language is.
    """
    state = sqlstate(error)
    if state not in {NOT_SUPPORTED, INTERNAL_ERROR}:
        return state == NOT_PREPARED
    file, function = source_of(error)
    return function == "RevalidateCachedQuery" if state == NOT_SUPPORTED else file in TYPES


def source_of(error: BaseException) -> tuple[str | None, str | None]:
    """Return the file and the function of PostgreSQL's source in which an error was raised."""
    raised_at: Any = getattr(error, "diag", None)  # psycopg's
    if raised_at is not None:
        return raised_at.source_file, raised_at.source_function
    raised_at = error.__cause__ or error
    names = ("server_source_filename", "server_source_function")
    return getattr(raised_at, names[0], None), getattr(raised_at, names[1], None)


def cannot_serve(error: BaseException | None) -> bool:
    """Tell whether a statement was refused because the server cannot serve now, or is ending."""
    code = native_code(error)
    if code == MYSQL_FORBIDDEN_BY_OPTION:  # the option's name is in no language
        return re.search(r"read[-_]only", str(error)) is not None
    return sqlstate(error) in ENDING or code in MYSQL_CANNOT_SERVE


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


def is_refused(error: BaseException | None) -> bool:
    """Tell whether the server itself has refused a statement that it cannot serve."""
    failed = sqlstate(error) == FAILED_TRANSACTION
    return failed or cannot_serve(error) or is_refused_write(error)


def is_interrupted(error: BaseException | None) -> bool:
    """Tell whether the database ended a statement because it was asked to."""
    code = getattr(error, "sqlite_errorcode", None)
    if sqlstate(error) == QUERY_CANCELED or native_code(error) in MYSQL_INTERRUPTED:
        return True
    return code == sqlite3.SQLITE_INTERRUPT


def is_locked(error: BaseException | None) -> bool:
    """Tell whether another connection has had SQLite's lock for longer than was to be waited.

    A read that is out of date is a conflict instead: to wait would not help
    (https://sqlite.org/rescode.html#busy_snapshot).
    """
    code = getattr(error, "sqlite_errorcode", None)
    is_busy = isinstance(code, int) and code & PRIMARY == SQLITE_BUSY
    return is_busy and code != sqlite3.SQLITE_BUSY_SNAPSHOT


def locked(who: object, error: BaseException) -> DatabaseUnavailable:
    """Return the error for a lock of SQLite's that was not given in time; it is safe to retry."""
    found = DatabaseUnavailable(
        f"{who} has waited too long for a lock that another connection or process holds: {error}."
    )
    found.nothing_was_stored = True
    found.__cause__ = error
    return found


def is_away(error: BaseException, state: str | None) -> bool:
    """Tell whether an error of connecting says that the database cannot be reached now.

    Args:
        error: the driver's.
        state: its SQLSTATE; psycopg's errors of connecting have none.
    """
    if isinstance(error, DBAPIError):
        error = error.orig or error
    code = native_code(error)
    if code is not None:
        return code in MYSQL_AWAY or code in MYSQL_GONE or code in MYSQL_CANNOT_SERVE
    if state is not None:
        return state in AWAY or state in ENDING or state.startswith("08")
    if isinstance(error, OSError | TimeoutError):
        return True
    return type(error).__name__ in {"OperationalError", "InterfaceError", "InternalClientError"}


def is_wrong_argument(error: BaseException) -> bool:
    """Tell whether a driver cannot take what it was to connect with, or to send first."""
    told = (error, error.__cause__)  # which SQLAlchemy's adapters may have given another class
    return is_unforeseen(error) or any(
        isinstance(each, TypeError | ValueError) or _is_of("ProgrammingError", each)
        for each in told
    )


def _is_of(name: str, error: BaseException | None) -> bool:
    """Tell whether an error is of a driver's class of this name, or of a subclass."""
    return any(each.__name__ == name for each in type(error).__mro__)


def is_unforeseen(error: BaseException) -> bool:
    """Tell whether a driver has met an argument as what it did not expect, and says nothing of it.

    Not the loss of a connection: while they connect, each has an error of its own for that.
    """
    return any(isinstance(each, AttributeError | LookupError) for each in (error, error.__cause__))


def is_permanent(error: BaseException, state: str | None, *, has_connected: bool = False) -> bool:
    """Tell whether an error of connecting will come again until somebody changes the configuration.

    Args:
        error: the driver's.
        state: its SQLSTATE; psycopg's errors of connecting have none.
        has_connected: whether the same settings have led to a connection before.
    """
    if isinstance(error, DBAPIError):
        error = error.orig or error
    code = native_code(error)
    if code is not None:
        return code in MYSQL_PERMANENT
    if state is None or state == PROTOCOL_VIOLATION:
        told = str(error)
        has_no_tls = NO_TLS in told and not has_connected
        return has_no_tls or PERMANENT_WORDS.search(told) is not None
    return state in PERMANENT


LOCK_NOT_AVAILABLE = "55P03"
LOCK_WAIT_TIMEOUT = 1205  # of MySQL and MariaDB


def has_waited_for_row(error: BaseException | None) -> bool:
    """Tell whether a server did not give the lock of a row in time."""
    return sqlstate(error) == LOCK_NOT_AVAILABLE or native_code(error) == LOCK_WAIT_TIMEOUT


def has_waited_for_lock(error: BaseException | None) -> bool:
    """Tell whether a statement has waited for somebody's lock for as long as it was told to."""
    if has_waited_for_row(error):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & PRIMARY == SQLITE_BUSY


UNDEFINED_TABLE = "42P01"
NO_SUCH_TABLE = 1146  # of MySQL and MariaDB


def is_missing_table(error: BaseException | None) -> bool:
    """Tell whether a statement was about a table that there is not.

    SQLite has one code for all that is wrong with a statement, so there its words have to tell.
    """
    if sqlstate(error) == UNDEFINED_TABLE or native_code(error) == NO_SUCH_TABLE:
        return True
    return str(error).startswith("no such table")


# PostgreSQL ends an idle transaction, or one that takes too long, before it reads what is sent next
# (idle_in_transaction_session_timeout, transaction_timeout): as an answer to COMMIT it says that
# this was not done.
ENDED_BEFORE = frozenset({"25P03", "25P04"})


def ended_before(error: BaseException | None) -> bool:
    """Tell whether the answer to COMMIT says that the transaction had been ended before."""
    return sqlstate(error) in ENDED_BEFORE
