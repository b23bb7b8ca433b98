"""Checks of what answers: driver, server, and how long it waits for us."""

from __future__ import annotations

import platform
from importlib.metadata import version

from sqlalchemy import Connection, text

from dbscope.cli.doctor.finding import Case, Finding, ok, warning
from dbscope.cli.versions import driver_version, server_numbers, server_version

OLDEST = {
    "sqlite": (3, 35),  # RETURNING, which SQLAlchemy inserts with
    "postgresql": (14,),  # https://www.postgresql.org/support/versioning/
}


def driver(case: Case) -> Finding:
    """The driver is there."""
    sqlalchemy = f"SQLAlchemy {version('sqlalchemy')}"
    return ok(f"{driver_version(case.engine)}, {sqlalchemy}, Python {platform.python_version()}")


def server(case: Case, connection: Connection) -> Finding:  # noqa: ARG001
    """The server is not too old."""
    oldest = OLDEST.get(connection.dialect.name, ())
    if server_numbers(connection) < oldest:
        return warning(
            f"{server_version(connection)} is too old.",
            f"Upgrade it: at least {'.'.join(map(str, oldest))}.",
        )
    return ok(server_version(connection))


def idle_in_transaction(case: Case, connection: Connection) -> Finding:  # noqa: ARG001
    """A transaction that nobody goes on with is ended by the server."""
    asked = text("SELECT current_setting('idle_in_transaction_session_timeout')")
    limit = connection.execute(asked).scalar_one()
    if limit == "0":
        return warning(
            "idle_in_transaction_session_timeout is not set: a process that hangs in a transaction "
            "holds its locks for ever, and blocks migrations and VACUUM.",
            "ALTER DATABASE … SET idle_in_transaction_session_timeout = '60s'",
        )
    return ok(f"ended after {limit}")
