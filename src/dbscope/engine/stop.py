"""End a statement that another thread or task is in.

To close its connection would end the process with it (SQLite), or never wake it (libpq, which
waits for a socket that is not there any more, or is another's by now).
"""

from __future__ import annotations

import os
import socket
import sqlite3
from contextlib import suppress
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from dbscope.backends.mysql import implicit_commit

if TYPE_CHECKING:
    from sqlalchemy import Connection

CANCEL_TIMEOUT = 1.0  # seconds


def stop(connection: Connection) -> bool:
    """Let the statement fail, perhaps by the loss of its connection; False: there is no way."""
    driver: Any = connection.connection.driver_connection
    file = getattr(driver, "_connection", driver)  # aiosqlite's
    if isinstance(file, sqlite3.Connection):
        file.interrupt()
    elif connection.dialect.name in implicit_commit.BACKENDS:
        _stop_mysql(connection, driver)
    elif connection.dialect.driver.startswith("psycopg"):
        _stop_psycopg(driver)
    else:
        return False  # asyncpg ends it by itself
    return True


def _stop_mysql(connection: Connection, driver: Any) -> None:
    if connection.dialect.is_async:
        implicit_commit.interrupt(connection)
    else:
        implicit_commit.kill(connection)
        if (end := driver._sock) is not None:  # noqa: SLF001  (its thread has not noticed)
            _shut_down(end)


def _stop_psycopg(driver: Any) -> None:
    try:
        cancelling = driver.cancel_safe(timeout=CANCEL_TIMEOUT)
        if isawaitable(cancelling):
            await_only(cancelling)
    except Exception:  # nobody is there
        with suppress(Exception):  # it may have given itself up meanwhile
            _shut_down(driver)


def _shut_down(end: Any) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(end.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
