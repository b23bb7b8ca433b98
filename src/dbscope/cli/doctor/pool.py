"""Checks of the pool: connections against threads, workers and the server's limit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from dbscope import AsyncDatabase
from dbscope.cli.ask import file_of
from dbscope.cli.doctor.finding import Case, Finding, note, ok, serious
from dbscope.cli.doctor.pooler import is_pooled
from dbscope.cli.say import plural

THREADS = 40  # of anyio, unless the application says otherwise
ROOM = {  # what is left for this role in this database; least() passes over NULL
    "postgresql": """
        SELECT least(
            current_setting('max_connections')::int
            - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true), '0')::int,
            (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
            (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user)
        )""",
    "mysql": "SELECT @@max_connections",
    "mariadb": "SELECT @@max_connections",
}


def pool_size(case: Case) -> Finding:
    """There are about as many connections as can be used at once."""
    pool: Any = case.engine.pool
    if case.connections is None:
        return note(f"{type(pool).__name__}: the number of connections has no limit of its own.")
    told = f"at most {plural(case.connections, 'connection')} for each process, {pool.size()} kept"
    threads_wait = not isinstance(case.db, AsyncDatabase) and case.connections < THREADS
    if threads_wait and case.engine.dialect.name != "sqlite":
        return note(
            f"{told}, while {THREADS} threads serve plain endpoints: some of them may wait.",
            f"engine_options={{'pool_size': {THREADS // 2}, 'max_overflow': {THREADS // 2}}}, "
            "or fewer threads, if PoolTimeout is seen under load.",
        )
    return ok(told)


def in_memory(case: Case) -> Finding | None:
    """A database in memory belongs to one process."""
    if case.engine.dialect.name != "sqlite" or file_of(case.db.url) is not None:
        return None
    if case.workers > 1:
        return serious(
            f"The database is in memory, and there are {case.workers} workers: each has its own.",
            "Use a file: sqlite:///app.db",
        )
    return note("The database is in memory: it is gone when the process ends.")


def max_connections(case: Case, connection: Connection) -> Finding | None:
    """The server has room for all connections of all workers."""
    question = ROOM.get(connection.dialect.name)
    if question is None or case.connections is None or is_pooled(connection):
        return None
    room = int(connection.exec_driver_sql(question).scalar_one())
    wanted = case.workers * case.connections
    told = (
        f"{plural(case.workers, 'worker')} of {plural(case.connections, 'connection')} may open "
        f"{wanted}, and the server has room for {room}"
    )
    if wanted > room:
        return serious(
            f"{told}: under load, connecting fails.",
            "Fewer workers, a smaller pool_size or max_overflow, or a pooler (PgBouncer).",
        )
    if 2 * wanted > room:
        return note(f"{told}: too few while a new release starts beside the old one.")
    return ok(told)
