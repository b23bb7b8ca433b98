"""One process migrates, the others wait: a lock that vanishes with the process that holds it."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager

from sqlalchemy import URL, Connection, Engine, text

from dbscope import MigrationError

POLL = 0.1  # seconds
KEY = 7233464250984980852  # "dbmigrat" in ASCII

# PostgreSQL's locks are of one database. They are tried, not waited for: a statement that waits
# has a snapshot, for which the CREATE INDEX CONCURRENTLY of the one that migrates would wait.
# MySQL's are of the whole server, and have at most 64 characters.
ASK = {
    "postgresql": text(
        "SELECT pg_try_advisory_lock(:key) FROM set_config('application_name', :me, false)"
    ).bindparams(key=KEY),
    "mysql": text("SELECT GET_LOCK(CONCAT('dbscope ', SHA1(DATABASE())), 0)"),
}
WHO = {
    "postgresql": text(
        "SELECT concat_ws(', ', nullif(application_name, ''), 'backend ' || pid)"
        " FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND datid = database"
        " AND datname = current_database() AND (classid::bigint << 32 | objid::bigint) = :key"
    ).bindparams(key=KEY),
    "mysql": text(
        "SELECT CONCAT('connection ', IS_USED_LOCK(CONCAT('dbscope ', SHA1(DATABASE()))))"
    ),
}
ASK["mariadb"], WHO["mariadb"] = ASK["mysql"], WHO["mysql"]


@contextmanager
def held(engine: Engine, timeout: float) -> Generator[Connection, None, None]:
    """Give a connection while the lock of its database is held.

    Args:
        engine: with a pool of its own; disposing it gives the lock back.
        timeout: seconds.

    Raises:
        MigrationError: the time was up; it says who has the lock.
    """
    path = file_of(engine.url)
    if path is not None:
        file = f"{os.path.realpath(path)}-migrate"
        with _file_held(file, timeout), engine.connect() as connection:
            yield connection
    else:
        with engine.connect() as connection:
            _wait(lambda: _ask(connection), lambda: _who(connection), timeout)
            yield connection


def _ask(connection: Connection) -> bool:
    ask = ASK.get(connection.dialect.name)
    if ask is None:
        return True
    me = f"dbscope migrating, process {os.getpid()} on {socket.gethostname()}"
    granted = bool(connection.scalar(ask, {"me": me[:63]}))  # that long a name may be
    connection.commit()
    return granted


def _who(connection: Connection) -> str | None:
    who: str | None = connection.scalar(WHO[connection.dialect.name])
    connection.rollback()
    return who


@contextmanager
def _file_held(path: str, timeout: float) -> Generator[None, None, None]:
    """Hold a file by SQLite's own locks, which every system has; it stays, and stays empty.

    Deleting it would let a second process make another one while a third has this one open.
    """
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as file:

        def ask() -> bool:
            try:
                file.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                return False
            return True

        _wait(ask, lambda: f"whoever has {path} open", timeout)
        yield


def _wait(ask: Callable[[], bool], who: Callable[[], str | None], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not ask():
        if time.monotonic() >= deadline:
            raise MigrationError(
                f"Another process is migrating this database ({who() or 'it is just done'}), and "
                f"was not done within {timeout:g} s. Start again when it is, or allow it more: "
                "Migrations(db, lock_timeout=...)."
            )
        time.sleep(POLL)


def is_memory(url: URL) -> bool:
    """Tell whether this is a SQLite database in memory, which only its one connection sees."""
    return url.get_backend_name() == "sqlite" and file_of(url) is None


def file_of(url: URL) -> str | None:
    """Return the file of a SQLite database, or None for any other."""
    name = url.database or ":memory:"
    in_memory = name == ":memory:" or "mode=memory" in name or url.query.get("mode") == "memory"
    if url.get_backend_name() != "sqlite" or in_memory:
        return None
    return name.removeprefix("file:").partition("?")[0]
