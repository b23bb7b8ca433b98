"""The drivers of SQLite: what they know about a connection without asking."""

from __future__ import annotations

import sqlite3
from functools import cached_property
from typing import Any

from dbscope.backends.driver import ConnectionStatus, Driver


class Sqlite3(Driver):
    """`sqlite3`, and what is around it."""

    bound_to_loop = False
    of_python = "sqlite3, of Python"

    def status(self, connection: Any) -> ConnectionStatus:
        """Look at its flag."""
        driver = getattr(connection, "driver_connection", connection)
        life = getattr(getattr(driver, "_connection", driver), "life", None)  # aiosqlite: a thread
        if life is not None and life.is_over:
            return ConnectionStatus.CLOSED  # maybe a moment later
        try:
            is_open = driver.in_transaction
        except (ValueError, sqlite3.ProgrammingError):  # aiosqlite: "no active connection"
            return ConnectionStatus.CLOSED
        return ConnectionStatus.IN_TRANSACTION if is_open else ConnectionStatus.IDLE


class Pysqlite(Sqlite3):
    """`sqlite3` itself."""

    counts_late = True


class Aiosqlite(Sqlite3):
    """aiosqlite, which has a thread for each connection."""

    of_python = ""

    @cached_property
    def futures_only(self) -> bool:
        """It does."""
        return True

    def hang_up(self, driver: Any) -> None:
        """Let its thread end."""
        from dbscope.backends.sqlite.aiosqlite import abandon

        abandon(driver)


class Inline(Sqlite3):
    """`sqlite+inline`, for which many sets of parameters are better sent in batches."""

    batches_parameters = True
    statement_cache = "sqlite+inline, which asks SQLite once what a text does, asks for each write"
    of_python = "sqlite+inline, over Python's sqlite3"

    @cached_property
    def futures_only(self) -> bool:
        """It does."""
        return True


DRIVERS: dict[str, Driver] = {
    "pysqlite": Pysqlite(),
    "aiosqlite": Aiosqlite(),
    "inline": Inline(),
}
