"""Run the checks: whatever one of them does, the others are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from dbscope import ConfigurationError
from dbscope.backends.doctor import Finding, ok, serious, warning
from dbscope.cli.ask import ask
from dbscope.cli.doctor import application, pool, server
from dbscope.cli.doctor.case import Case
from dbscope.cli.doctor.migrations import migrations
from dbscope.cli.find import Found
from dbscope.cli.say import one_line

# In the order in which they are told, and before those of the backend.
BEFORE_CONNECTING = (server.driver, pool.pool_size)
CONNECTED = (server.server, pool.max_connections)
LOOK = "Look whether the server runs, and whether host, port, name, user and password are right."


@dataclass(frozen=True)
class Examined:
    """A finding, of which check, about what."""

    subject: str
    check: str
    finding: Finding


def examine_application(found: Found) -> Iterator[Examined]:
    """Examine the application."""
    for check in application.CHECKS:
        yield from examined("application", check, found)
    for own in application.own_checks(found):
        yield from examined("application", own)


def examine_database(name: str, case: Case) -> Iterator[Examined]:
    """Examine one database; its driver may be missing, and it may be away."""
    try:
        _ = case.engine
    except ConfigurationError as error:
        yield Examined(name, "driver", serious(error.what, "Install it, or use another driver."))
        return
    for check in (*BEFORE_CONNECTING, *case.doctor.before):
        yield from examined(name, check, case)
    if case.file is not None and not case.file.exists():  # to connect would make it
        return
    with case.doctor.connecting(case):
        seen = live(name, case)
        yield from seen
        if seen[0].finding.level == "ok":
            yield from examined(name, migrations, case)


def live(name: str, case: Case) -> list[Examined]:
    """Run the checks that need a connection; the first thing told is whether there is one."""

    def question(connection: Connection) -> list[Examined]:
        seen: list[Examined] = []
        for check in (*CONNECTED, *case.doctor.connected):
            seen += examined(name, check, case, connection)
            connection.rollback()
        return seen

    try:
        seen = ask(case.db, question, case.timeout)
    except Exception as error:
        return [
            Examined(name, "connection", serious(f"It does not answer: {one_line(error)}", LOOK))
        ]
    return [Examined(name, "connection", ok("it answers")), *seen]


def examined(subject: str, check: Callable[..., Finding | None], *given: Any) -> Iterator[Examined]:
    """Run one check, and give what it has found."""
    try:
        finding = check(*given)
    except Exception as error:
        finding = warning(f"It could not be looked at: {one_line(error)}", "Look at it by hand.")
    if finding is not None:
        yield Examined(subject, check.__name__, finding)
