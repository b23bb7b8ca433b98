"""Checks of the pool: connections against threads, workers and the server's limit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from dbscope import AsyncDatabase
from dbscope.backends.doctor import Finding, note, ok, plural, serious
from dbscope.cli.doctor.case import Case

THREADS = 40  # of anyio, unless the application says otherwise


def pool_size(case: Case) -> Finding:
    """There are about as many connections as can be used at once."""
    pool: Any = case.engine.pool
    if case.connections is None:
        return note(f"{type(pool).__name__}: the number of connections has no limit of its own.")
    size = f"at most {plural(case.connections, 'connection')} for each process, {pool.size()} kept"
    threads_wait = not isinstance(case.db, AsyncDatabase) and case.connections < THREADS
    if threads_wait and case.doctor.has_server:
        return note(
            f"{size}, while {THREADS} threads serve plain endpoints: some of them may wait.",
            f"engine_options={{'pool_size': {THREADS // 2}, 'max_overflow': {THREADS // 2}}}, "
            "or fewer threads, if PoolTimeout is seen under load.",
        )
    return ok(size)


def max_connections(case: Case, connection: Connection) -> Finding | None:
    """The server has room for all connections of all workers."""
    room = None if case.connections is None else case.doctor.room(connection)
    if room is None or case.connections is None:
        return None
    wanted = case.workers * case.connections
    demand = (
        f"{plural(case.workers, 'worker')} of {plural(case.connections, 'connection')} may open "
        f"{wanted}, and the server has room for {room}"
    )
    if wanted > room:
        return serious(
            f"{demand}: under load, connecting fails.",
            f"Fewer workers, a smaller pool_size or max_overflow, or {case.doctor.a_pooler}.",
        )
    if 2 * wanted > room:
        return note(f"{demand}: too few while a new release starts beside the old one.")
    return ok(demand)
