"""One process migrates, the others wait: a lock that vanishes with the process that holds it.

On PostgreSQL and MySQL it belongs to the session that migrates, so neither can outlive the other.
A pooler would keep such a session, and the lock with it; there the lock belongs to a transaction
of a second connection, and is looked at again before each revision begins and ends.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager

from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from dbscope import MigrationError
from dbscope.backends.postgresql.pooler import NOTHING_PREPARED, driver_name, told_pid

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
ASK_IN_TRANSACTION = text(
    "SELECT pg_try_advisory_xact_lock(:key) FROM set_config('application_name', :me, true)"
).bindparams(key=KEY)
# It is idle in its transaction for as long as the other connection migrates.
MAY_BE_IDLE = text(
    "SELECT set_config(name, '0', true) FROM pg_settings"
    " WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)
# asyncpg leaves a portal open, and its snapshot: CREATE INDEX CONCURRENTLY would wait for that.
NO_SNAPSHOT = "SHOW transaction_isolation"
STILL = "dbscope_still_locked"  # an execution option: what to call to be sure of the lock
NODES = text("SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'")


@contextmanager
def held(
    engine: Engine, timeout: float, *, alone: bool = False
) -> Generator[Connection, None, None]:
    """Give a connection while the lock of its database is held.

    Args:
        engine: with a pool of its own; disposing it gives the lock back.
        timeout: seconds.
        alone: on Galera, nobody migrates by another node.

    Raises:
        MigrationError: the time was up; it says who has the lock. Or there is no lock that holds.
    """
    path = file_of(engine.url)
    if path is not None:
        file = f"{os.path.realpath(path)}-migrate"
        with _file_held(file, timeout), engine.connect() as connection:
            yield connection
        return
    with engine.connect() as connection:
        if is_pooled(connection):
            with _held_beside(engine, timeout) as still:
                yield connection.execution_options(**{STILL: still})
        else:
            if not alone:
                _refuse_galera(connection)
            _wait(lambda: _ask(connection), lambda: _who(connection), timeout)
            yield connection


def is_pooled(connection: Connection) -> bool:
    """Tell whether a pooler answers: the process is another than the driver was told of."""
    if connection.dialect.name != "postgresql":
        return False
    if driver_name(connection.dialect) not in NOTHING_PREPARED:
        return False
    answers = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    connection.rollback()
    return told_pid(connection.connection.driver_connection) != int(answers)


def still_held(connection: Connection) -> None:
    """Raise MigrationError if the lock of a connection was lost, which only a second one can."""
    still: Callable[[], None] | None = connection.get_execution_options().get(STILL)
    if still is not None:
        still()


@contextmanager
def _held_beside(engine: Engine, timeout: float) -> Generator[Callable[[], None], None, None]:
    """Hold the lock in a transaction of another connection, which a pooler cannot take away."""
    beside = Engine(engine.pool.recreate(), engine.dialect, engine.url)
    try:
        with beside.connect() as keeper:
            _wait(lambda: _ask_in_transaction(keeper), lambda: _who(keeper), timeout)

            def still() -> None:
                try:
                    keeper.exec_driver_sql(NO_SNAPSHOT)
                except DBAPIError as error:
                    raise MigrationError(
                        "The lock of the migration was lost with its connection, so another "
                        "process may migrate. Start again; see 'Behind a pooler' in "
                        "docs/how-to/migrations.md."
                    ) from error

            still()  # lets go of the snapshot of what was asked
            yield still
    finally:
        beside.dispose()


def _ask_in_transaction(keeper: Connection) -> bool:
    keeper.execute(MAY_BE_IDLE)
    granted = bool(keeper.scalar(ASK_IN_TRANSACTION, {"me": _me()}))
    if not granted:
        keeper.rollback()  # the pooler has others who want the server's connection
    return granted


def _refuse_galera(connection: Connection) -> None:
    if connection.dialect.name not in ("mysql", "mariadb"):
        return
    found = connection.execute(NODES).first()
    connection.rollback()
    if found is not None and int(found[1]) > 1:
        raise MigrationError(
            f"This is a Galera cluster of {found[1]} nodes, and no lock of one node is seen by the "
            "others: two processes might migrate at once. Let one process migrate, in a step of "
            "the deployment: `dbscope upgrade --alone`, and the application at_start('check'). "
            "Or, if all are connected to one node: Migrations(db, alone=True)."
        )


def _ask(connection: Connection) -> bool:
    ask = ASK.get(connection.dialect.name)
    if ask is None:
        return True
    granted = bool(connection.scalar(ask, {"me": _me()}))
    connection.commit()
    return granted


def _me() -> str:
    name = f"dbscope migrating, process {os.getpid()} on {socket.gethostname()}"
    return name[:63]  # that long a name may be


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
