"""Run the checks: whatever one of them does, the others are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from dbscope import ConfigurationError
from dbscope.cli.ask import ask, file_of
from dbscope.cli.doctor import application, pool, server, sqlite
from dbscope.cli.doctor.finding import Case, Finding, ok, serious, warning
from dbscope.cli.doctor.migrations import migrations
from dbscope.cli.doctor.pooler import nothing_prepared, pooler
from dbscope.cli.doctor.session_state import session_state
from dbscope.cli.find import Found
from dbscope.cli.say import one_line

ConnectionCheck = Callable[[Case, Connection], Finding | None]

# In the order in which they are told; one that returns None does not apply.
BEFORE_CONNECTING = (server.driver, pool.pool_size, pool.in_memory, sqlite.database_file)
CONNECTED = (server.server, pool.max_connections)
ON: dict[str, tuple[ConnectionCheck, ...]] = {
    "sqlite": (
        sqlite.journal_mode,
        sqlite.busy_timeout,
        sqlite.foreign_keys,
        sqlite.synchronous,
    ),
    "postgresql": (pooler, server.idle_in_transaction, session_state),
}


LOOK = "Look whether the server runs, and whether host, port, name, user and password are right."


@dataclass(frozen=True)
class Told:
    """A finding, of which check, about what."""

    subject: str
    check: str
    finding: Finding


def examine_application(found: Found) -> Iterator[Told]:
    """Examine the application."""
    for check in application.CHECKS:
        yield from told("application", check, found)
    for own in application.own_checks(found):
        yield from told("application", own)


def examine_database(name: str, case: Case) -> Iterator[Told]:
    """Examine one database; its driver may be missing, and it may be away."""
    try:
        _ = case.engine
    except ConfigurationError as error:
        yield Told(name, "driver", serious(error.what, "Install it, or use another driver."))
        return
    for check in BEFORE_CONNECTING:
        yield from told(name, check, case)
    file = file_of(case.db.url)
    if file is not None and not file.exists():  # to connect would make it
        return
    with nothing_prepared(case):
        seen = live(name, case)
        yield from seen
        if seen[0].finding.level == "ok":
            yield from told(name, migrations, case)


def live(name: str, case: Case) -> list[Told]:
    """Run the checks that need a connection; the first thing told is whether there is one."""

    def question(connection: Connection) -> list[Told]:
        seen: list[Told] = []
        for check in (*CONNECTED, *ON.get(connection.dialect.name, ())):
            seen += told(name, check, case, connection)
            connection.rollback()
        return seen

    try:
        seen = ask(case.db, question, case.timeout)
    except Exception as error:
        return [Told(name, "connection", serious(f"It does not answer: {one_line(error)}", LOOK))]
    return [Told(name, "connection", ok("it answers")), *seen]


def told(subject: str, check: Callable[..., Finding | None], *given: Any) -> Iterator[Told]:
    """Run one check, and give what it has found."""
    try:
        finding = check(*given)
    except Exception as error:
        finding = warning(f"It could not be looked at: {one_line(error)}", "Look at it by hand.")
    if finding is not None:
        yield Told(subject, check.__name__, finding)
