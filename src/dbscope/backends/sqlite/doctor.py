"""Checks of SQLite: the file, and the PRAGMAs that are really in force."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from sqlalchemy import Connection

from dbscope.backends.doctor import (
    Case,
    Check,
    ConnectionCheck,
    Doctor,
    Finding,
    note,
    ok,
    serious,
    warning,
)

SHORT_WAIT = 1000  # milliseconds
SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


def in_memory(case: Case) -> Finding | None:
    """A database in memory belongs to one process."""
    if case.file is not None:
        return None
    if case.workers > 1:
        return serious(
            f"The database is in memory, and there are {case.workers} workers: each has its own.",
            "Use a file: sqlite:///app.db",
        )
    return note("The database is in memory: it is gone when the process ends.")


def database_file(case: Case) -> Finding | None:
    """The file, and the folder in which SQLite keeps two more beside it, can be written."""
    file = case.file
    if file is None:
        return None
    folder = file.absolute().parent
    if not folder.is_dir():
        return serious(f"There is no folder {folder}.", f"Make it: mkdir -p {folder}")
    for path in (file, folder):
        if path.exists() and not os.access(path, os.W_OK):
            return serious(
                f"{path} cannot be written by this user.",
                "Give it to the user that the application runs as; SQLite writes beside the file "
                "too (-wal, -shm).",
            )
    if not file.exists():
        return note(f"{file} is not there yet; the first start makes it.")
    return ok(f"{file} and its folder can be written")


def pragma(connection: Connection, name: str) -> Any:
    """Return a PRAGMA that is in force."""
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


def journal_mode(case: Case, connection: Connection) -> Finding | None:
    """The journal is a WAL, so that readers and the writer do not wait for each other."""
    if case.file is None:
        return None
    mode = pragma(connection, "journal_mode")
    if mode != "wal":
        return warning(
            f"{mode.upper()}: readers and the writer wait for each other.",
            "Remove the PRAGMA journal_mode from the application: dbscope asks for WAL.",
        )
    return ok("WAL")


def busy_timeout(case: Case, connection: Connection) -> Finding:
    """Another process that writes is waited for."""
    milliseconds = int(pragma(connection, "busy_timeout"))
    if milliseconds >= SHORT_WAIT:
        return ok(f"{milliseconds} ms")
    return (serious if case.workers > 1 else warning)(
        f"{milliseconds} ms: while another process writes, requests fail at once with "
        "'database is locked'.",
        "Leave `timeout` out of connect_args (5 s), and PRAGMA busy_timeout out of the code.",
    )


def foreign_keys(case: Case, connection: Connection) -> Finding:  # noqa: ARG001
    """Foreign keys are looked at."""
    if not pragma(connection, "foreign_keys"):
        return serious(
            "Foreign keys are not enforced: rows can refer to what is not there.",
            "Remove what switches them off (PRAGMA foreign_keys): dbscope switches them on.",
        )
    return ok("enforced")


def synchronous(case: Case, connection: Connection) -> Finding:  # noqa: ARG001
    """A power failure leaves the file whole."""
    number = int(pragma(connection, "synchronous"))
    if number == 0:
        return serious(
            "OFF: a power failure can destroy the database.",
            "Remove the PRAGMA synchronous from the application: dbscope asks for NORMAL.",
        )
    return ok(SYNCHRONOUS[number])


class SQLiteDoctor(Doctor):
    """What is particular to it."""

    title = "SQLite"
    oldest = (3, 35)  # RETURNING, which SQLAlchemy inserts with
    has_server = False
    before: ClassVar[tuple[Check, ...]] = (in_memory, database_file)
    connected: ClassVar[tuple[ConnectionCheck, ...]] = (
        journal_mode,
        busy_timeout,
        foreign_keys,
        synchronous,
    )
