"""One statement by the simple protocol: in no transaction, and nothing is prepared for it."""

from __future__ import annotations

from inspect import isawaitable
from typing import Any

from sqlalchemy.util import await_only


def driver_of(connection: Any) -> Any:
    """Return the driver's own connection."""
    return getattr(connection, "driver_connection", connection)


def run(connection: Any, statement: str) -> str:
    """Run a statement, and return what the server says that it did: `SELECT 1`, `SET`, ….

    Args:
        connection: of psycopg or asyncpg, in no transaction.
        statement: without parameters.
    """
    driver = driver_of(connection)
    if is_asyncpg(driver):
        return str(await_only(driver.execute(statement)))
    was = driver.autocommit
    awaited(driver.set_autocommit(True))
    try:
        cursor = awaited(driver.execute(statement, prepare=False))
    finally:
        if not driver.closed:
            awaited(driver.set_autocommit(was))
    return str(cursor.statusmessage)


def value(connection: Any, question: str) -> Any:
    """Return the one value that the server answers; the same."""
    driver = driver_of(connection)
    if is_asyncpg(driver):
        return await_only(driver.fetchval(question))
    was = driver.autocommit
    awaited(driver.set_autocommit(True))
    try:
        cursor = driver.cursor(row_factory=first_of)
        awaited(cursor.execute(question, prepare=False))
        return awaited(cursor.fetchone())
    finally:
        if not driver.closed:
            awaited(driver.set_autocommit(was))


def first_of(cursor: Any) -> Any:  # noqa: ARG001
    """Make nothing of a row but its first value, whatever the application makes of rows."""

    def first(values: Any) -> Any:
        return values[0]

    return first


def is_asyncpg(driver: Any) -> bool:
    """Tell whether this is asyncpg's connection, and not psycopg's."""
    return hasattr(driver, "get_server_pid")


def awaited(result: Any) -> Any:
    """Return the result, which is awaited if the driver is an async one."""
    return await_only(result) if isawaitable(result) else result
