"""An independent look at a database: what another client sees, whatever the library believes."""

import random
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import psycopg
import pymysql
from sqlalchemy.engine import URL, make_url

PATIENCE = 10.0  # seconds: a lock that stays shows as an error, and not one of a busy machine


POSTGRES_BACKENDS = (
    "SELECT pid, coalesce(state, ''), query, application_name FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)
INNODB_CACHE = 0.12  # seconds: what InnoDB tells of its transactions may be that old
DICE = random.Random()  # our own: some tests load those of the module
MYSQL_BACKENDS = """
    SELECT id, IF(command <> 'Sleep', 'active', IF(trx_id, 'idle in transaction', 'idle')),
      coalesce(info, ''), ''
    FROM information_schema.processlist
    LEFT JOIN information_schema.innodb_trx ON trx_mysql_thread_id = id
    WHERE db = database() AND id <> connection_id()
"""


def pause() -> float:
    """Return how long to wait for news; of several who look, each keeps the cache from others."""
    return DICE.uniform(1, 3) * INNODB_CACHE


def until(holds: Callable[[], bool], patience: float = 2 * PATIENCE) -> bool:
    """Wait for what somebody else is about to do; tell whether it came to be."""
    deadline = time.monotonic() + patience
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return held


@dataclass(frozen=True)
class Backend:
    """One client of a server, as pg_stat_activity tells, or MariaDB's list of processes."""

    pid: int
    state: str
    query: str
    application_name: str


class Onlooker:
    """A synchronous connection of its own; each statement is its own transaction.

    Takes the URL of any driver. Parameters are written ``?`` for all databases. The patience is for
    locks; that of MariaDB has whole seconds.
    """

    def __init__(self, url: str | URL, patience: float = PATIENCE) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.is_mysql = self.url.get_backend_name() in {"mysql", "mariadb"}
        self._connection: Any = self._connect(patience)
        self._mutex = threading.Lock()  # answers that start at once look at once
        self._news_at = 0.0  # when InnoDB's cache is renewed, if nobody looks until then

    def rows(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return self._run(sql, params).fetchall()

    def scalar(self, sql: str, *params: object) -> Any:
        """Return the first column of the first row, or None if there is no row."""
        row = self._run(sql, params).fetchone()
        return None if row is None else row[0]

    def execute(self, sql: str, *params: object) -> None:
        """Run a statement, at once and for good."""
        self._run(sql, params)

    def write_lock_is_free(self) -> bool:
        """Say whether a writer could begin at this moment (SQLite)."""
        connection = self._connect(patience=0)
        try:
            connection.execute("BEGIN IMMEDIATE").execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
        finally:
            connection.close()
        return True

    def backends(self) -> list[Backend]:
        """Return the other clients of this database (not SQLite)."""
        if not self.is_mysql:
            return [Backend(*row) for row in self.rows(POSTGRES_BACKENDS)]
        time.sleep(max(0, self._news_at - time.monotonic()))  # a look keeps the cache as it is
        rows = self.rows(MYSQL_BACKENDS)
        self._news_at = time.monotonic() + pause()
        return [Backend(*row) for row in rows]

    def idle_in_transaction(self, patience: float = PATIENCE) -> list[Backend]:
        """Return the clients that hold a transaction open, do nothing, and stay so (not SQLite).

        A server needs a moment to notice that a client has gone, and InnoDB's cache may be old.
        """
        found = [each for each in self.backends() if each.state.startswith("idle in transaction")]
        end = time.monotonic() + patience
        while found and time.monotonic() < end:
            time.sleep(pause())
            again = self.backends()
            found = [each for each in found if each in again]
        return found

    def close(self) -> None:
        """Stop looking."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self, sql: str, params: tuple[object, ...]) -> Any:
        with self._mutex:
            return self._run_alone(sql, params)

    def _run_alone(self, sql: str, params: tuple[object, ...]) -> Any:
        if self.is_mysql:
            cursor = self._connection.cursor()
            cursor.execute(sql.replace("%", "%%").replace("?", "%s") if params else sql, params)
            return cursor
        if self.is_sqlite or not params:
            return self._connection.execute(sql, params or ())
        return self._connection.execute(sql.replace("%", "%%").replace("?", "%s"), params)

    def _connect(self, patience: float) -> Any:
        if self.is_mysql:
            return self._connect_mysql(max(1, round(patience)))
        return (self._connect_sqlite if self.is_sqlite else self._connect_postgres)(patience)

    def _connect_sqlite(self, patience: float) -> sqlite3.Connection:
        path = self.url.database or ":memory:"
        if ":memory:" in path:
            raise ValueError("a database in memory cannot be seen from another connection")
        return sqlite3.connect(
            path,
            timeout=patience,
            isolation_level=None,
            check_same_thread=False,
            uri=path.startswith("file:"),
        )

    def _connect_postgres(self, patience: float) -> psycopg.Connection:
        url = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
        options = f"-c lock_timeout={int(patience * 1000)}ms"
        return psycopg.connect(
            url, autocommit=True, connect_timeout=10, options=options, prepare_threshold=None
        )

    def _connect_mysql(self, patience: int) -> pymysql.Connection:
        return pymysql.connect(
            host=self.url.host,
            port=self.url.port or 3306,
            user=self.url.username,
            password=str(self.url.password or ""),
            database=self.url.database,
            autocommit=True,
            init_command=(
                f"SET innodb_lock_wait_timeout = {patience}, lock_wait_timeout = {patience}"
            ),
        )


class LastingOnlooker(Onlooker):
    """One of many that look at one database, one after the other.

    On PostgreSQL they share a connection, whose process there costs more than all that it is asked;
    each finds it as if it were new. There is none for a database that will be dropped.
    """

    kept: ClassVar[dict[URL, psycopg.Connection]] = {}

    def close(self) -> None:
        """Leave the connection to the next one."""
        if not isinstance(self._connection, psycopg.Connection) or self._place in self.kept:
            super().close()
        elif is_like_new(self._connection):
            self.kept[self._place] = self._connection

    @property
    def _place(self) -> URL:
        """Where it looks, whoever's driver works there."""
        return self.url.set(drivername="postgresql")

    def _connect_postgres(self, patience: float) -> psycopg.Connection:
        connection = self.kept.pop(self._place, None)
        if connection is not None and is_like_new(connection):
            return connection
        return super()._connect_postgres(patience)

    @classmethod
    def close_all(cls) -> None:
        """Close what is kept."""
        while cls.kept:
            cls.kept.popitem()[1].close()


def is_like_new(connection: psycopg.Connection) -> bool:
    """Make it so, and tell whether that was possible: a transaction is in the way; or close it."""
    try:
        connection.execute("DISCARD ALL")
    except psycopg.Error:
        connection.close()
        return False
    return True
