"""Checks of what answers: driver, server, and how long it waits for us."""

from __future__ import annotations

import platform
from importlib.metadata import version

from sqlalchemy import Connection

from dbscope.backends.doctor import Finding, ok, warning
from dbscope.cli.doctor.case import Case
from dbscope.cli.versions import driver_version, server_numbers, server_version


def driver(case: Case) -> Finding:
    """The driver is there."""
    sqlalchemy = f"SQLAlchemy {version('sqlalchemy')}"
    return ok(f"{driver_version(case.engine)}, {sqlalchemy}, Python {platform.python_version()}")


def server(case: Case, connection: Connection) -> Finding:
    """The server is not too old."""
    oldest = case.doctor.oldest
    if server_numbers(connection) < oldest:
        return warning(
            f"{server_version(connection, case.doctor)} is too old.",
            f"Upgrade it: at least {'.'.join(map(str, oldest))}.",
        )
    return ok(server_version(connection, case.doctor))
