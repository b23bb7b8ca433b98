"""An independent look at a database: what another client sees, whatever the library believes."""

import sqlite3
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from sqlalchemy.engine import URL, make_url

PATIENCE = 0.2  # seconds: a lock that is held shows as an error, soon


@dataclass(frozen=True)
class Backend:
    """One client of a PostgreSQL server, as pg_stat_activity tells."""

    pid: int
    state: str
    query: str
    application_name: str


class Onlooker:
    """A synchronous connection of its own; each statement is its own transaction.

    Takes the URL of any driver. Parameters are written ``?`` for both databases.
    """

    def __init__(self, url: str | URL) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._connection: Any = self._connect(PATIENCE)

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
        """Return the other clients of this database (PostgreSQL)."""
        rows = self.rows(
            "SELECT pid, coalesce(state, ''), query, application_name FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        return [Backend(*row) for row in rows]

    def idle_in_transaction(self) -> list[Backend]:
        """Return the clients that hold a transaction open and do nothing (PostgreSQL)."""
        return [each for each in self.backends() if each.state.startswith("idle in transaction")]

    def close(self) -> None:
        """Stop looking."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self, sql: str, params: tuple[object, ...]) -> Any:
        if self.is_sqlite or not params:
            return self._connection.execute(sql, params or ())
        return self._connection.execute(sql.replace("%", "%%").replace("?", "%s"), params)

    def _connect(self, patience: float) -> Any:
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
        return psycopg.connect(url, autocommit=True, connect_timeout=10, options=options)
