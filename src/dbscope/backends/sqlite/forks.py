"""A fork: no file of SQLite may be open across it.

SQLite would take the parent's locks for the child's own: when the parent closes the file, it would
remove the log that the child writes to, and with it all that was committed there
(https://sqlite.org/howtocorrupt.html, 2.6).
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.pool import QueuePool
from sqlalchemy.util.queue import Empty

from dbscope.errors import ConfigurationError
from dbscope.sqlite_inline import commits, files, queue
from dbscope.sqlite_inline.connection import InlineConnection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.pool import ConnectionPoolEntry

_lost: set[str] = set()  # files that were open when this process was forked


def watch(engine: Engine, file: str) -> None:
    """Refuse connections to a file that was open at the fork: once for the life of an engine."""

    @event.listens_for(engine, "do_connect")
    def before_connect(*args: Any) -> None:  # noqa: ARG001
        if file in _lost:
            raise ConfigurationError(
                f"{file} was in use when this process was forked, and SQLite would lose what is "
                "written here. Fork outside of scopes, or start the process by 'spawn'."
            )


def file_of(engine: Engine) -> str | None:
    """Return the path of the file of an engine, if it has one."""
    return files.path_of(engine.url) if engine.dialect.name == "sqlite" else None


def close_idle(engine: Engine) -> list[ConnectionPoolEntry]:
    """Close what nobody uses, before a fork; the pool opens it again when it is needed.

    Returns:
        Whose connection is closed.
    """
    pool = engine.pool
    if file_of(engine) is None or not isinstance(pool, QueuePool):
        return []
    idle = list(_taken_out(pool))
    closed: list[ConnectionPoolEntry] = []
    for record in idle:
        with suppress(sqlite3.Error):
            _close(record.dbapi_connection)
            record.invalidate(soft=True)  # else SQLAlchemy might wait for the end, in no greenlet
            closed.append(record)
    for record in idle:
        pool._do_return_conn(record)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return closed


def _taken_out(pool: QueuePool) -> Iterator[ConnectionPoolEntry]:
    # As `pool.dispose()` does it. To check them out would open what is not there, or wait.
    waiting = pool._pool  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while pool.checkedin():
        with suppress(Empty):  # another thread was faster
            yield waiting.get_nowait()


def _close(connection: Any) -> None:
    driver = getattr(connection, "driver_connection", connection)
    if isinstance(connection, InlineConnection):
        connection.end()
    elif hasattr(driver, "stop"):  # aiosqlite
        driver.stop()
        driver._thread.join()  # noqa: SLF001
    elif driver is not None:
        driver.close()


def start_anew(opened: Iterable[str | None]) -> None:
    """Know, in a forked child, which files can't be used here; no writer of the parent's lives."""
    _lost.update(file for file in opened if file is not None)
    queue.forget_writers()
    commits.forget_checkpoints()
