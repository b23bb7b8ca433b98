"""What was left in sessions of PostgreSQL, where whoever gets the connection next will find it."""

from __future__ import annotations

from sqlalchemy import Connection, text

from dbscope.backends.doctor import Case, Finding, ok, plural, warning
from dbscope.backends.postgresql.session_state import MARK

# Of the same role in the same database. Who holds a lock on purpose has marked it, or migrates.
IDLE = """SELECT pid FROM pg_stat_activity WHERE state = 'idle' AND datname = current_database()
 AND usename = current_user AND application_name NOT LIKE 'dbscope migrating%'"""
LOCKS = text(f"""SELECT count(DISTINCT pid) FROM pg_locks
 WHERE locktype = 'advisory' AND granted AND pid IN ({IDLE}) AND pid NOT IN (
 SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {MARK} AND objsubid = 2)""")  # noqa: S608
# https://www.postgresql.org/docs/current/monitoring-stats.html: the number of a session is that of
# the schema of its temporary tables.
TABLES = text(f"""SELECT count(DISTINCT id) FROM pg_stat_get_backend_idset() AS id
 JOIN pg_namespace ON nspname = 'pg_temp_' || id
 JOIN pg_class ON relnamespace = pg_namespace.oid AND relkind = 'r'
 WHERE pg_stat_get_backend_pid(id) IN ({IDLE})""")  # noqa: S608
LEFT = {"advisory locks": LOCKS, "temporary tables": TABLES}
REMEDY = (
    "Use db.advisory_lock() or pg_advisory_xact_lock(), and ON COMMIT DROP; or reset_session=True. "
    "See docs/how-to/session-state.md"
)


def session_state(case: Case, connection: Connection) -> Finding:  # noqa: ARG001
    """No session that nobody uses has anything left in it."""
    found = {what: connection.execute(question).scalar_one() for what, question in LEFT.items()}
    parts = [f"{plural(number, 'idle session')} with {what}" for what, number in found.items()]
    parts = [each for each, number in zip(parts, found.values(), strict=True) if number]
    if parts:
        return warning(
            f"There is {' and '.join(parts)}: they outlive their transaction, and the next one "
            "that gets the connection has them.",
            REMEDY,
        )
    return ok("no idle session has locks or temporary tables")
