"""MySQL and MariaDB: what they can do, and how they are told."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from dbscope.backends import limits
from dbscope.backends.base import Backend
from dbscope.backends.features import Features
from dbscope.backends.mysql import (
    drivers,
    implicit_commit,
    kill,
    packets,
    rest,
    session,
    session_state,
)
from dbscope.backends.mysql.lock_waits import MySQLLockWaits
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from sqlalchemy import Column, Connection, Engine, Table
    from sqlalchemy.engine import ExceptionContext

    from dbscope.backends.doctor import Doctor
    from dbscope.backends.inserting import Inserting
    from dbscope.backends.lock_waits import LockWaits
    from dbscope.backends.migrating import Migrating
    from dbscope.backends.mysql.session_state import Kept
    from dbscope.unit.unit import Unit

FOR_EVER = 365 * 24 * 3600  # seconds: MariaDB wants a number
# Locks are those of the server, so their names have that of the database in them.
SCHEMA = "CONCAT('dbscope schema ', SHA1(DATABASE()))"
LOCK_SCHEMA = text(f"SELECT GET_LOCK({SCHEMA}, 60)")
UNLOCK_SCHEMA = text(f"SELECT RELEASE_LOCK({SCHEMA})")
NAME = "CONCAT('dbscope ', SHA1(CONCAT(DATABASE(), ' ', :key)))"
LOCK = text(f"SELECT GET_LOCK({NAME}, :seconds)")
UNLOCK = text(f"SELECT RELEASE_LOCK({NAME})")


class MySQL(Backend):
    """One database of MySQL."""

    features = Features(
        name="mysql",
        family="mysql",
        commits_definitions=True,
        readonly=True,
        reader=True,
        statement_timeout=True,
        isolation=True,
        advisory_locks=True,
        reset_session=True,
        upsert=True,
        nulls_last=False,
        enums_by_position=True,
    )
    drivers = drivers.DRIVERS
    default_drivers = ("pymysql", "asyncmy")

    @classmethod
    def doctor(cls) -> Doctor:
        """Return what `dbscope doctor` wants to know."""
        from dbscope.backends.mysql.doctor import MySQLDoctor

        return MySQLDoctor()

    @classmethod
    def migrating(cls) -> Migrating:
        """Return what differs when revisions are written and run."""
        from dbscope.backends.mysql.migrating import MySQLMigrating

        return MySQLMigrating()

    def install(self, engine: Engine) -> None:
        """See when the server ends a transaction by itself, and read no rest before a ROLLBACK."""
        implicit_commit.install(engine)
        rest.install(engine)
        if not engine.dialect.is_async:
            dialect: Any = engine.dialect
            dialect.do_close = partial(close, dialect.do_close)

    def why_not_connected(self, error: Exception) -> str | None:
        """Say that a file of its encryption is missing; of a socket the drivers have a code."""
        if not isinstance(error, FileNotFoundError):
            return None
        return f"there is no such file as the URL or `connect_args` names ({error})"

    def refuse_writes(self, connection: Any, dialect: Any) -> None:  # noqa: ARG002
        """Make a new connection one whose transactions cannot write."""
        session.refuse_writes(connection)

    # -- transactions --------------------------------------------------------------------------

    def after_begin(self, unit: Unit, connection: Connection, *, has_reader: bool) -> None:
        """Make a read-only transaction one, where there are no connections for it."""
        if unit.is_readonly and not has_reader:
            session.refuse_writes_for_now(connection)

    def tell_deadline(self, unit: Unit, connection: Connection) -> None:
        """Set the longest time of a statement."""
        limits.tell(unit, connection, limit)

    def forget_deadline(self, unit: Unit, connection: Connection) -> None:
        """Set it to what it was."""
        limits.forget(unit, connection, limit)

    # -- failures ------------------------------------------------------------------------------

    def is_too_large(self, context: ExceptionContext) -> bool:
        """Tell whether a statement was larger than `max_allowed_packet`."""
        return packets.is_too_large(context)

    def became_read_only(self, connection: Connection) -> bool:
        """Ask whether it is the session that cannot write."""
        return session.is_read_only(connection)

    def interrupt(self, connection: Connection) -> None:
        """Kill the query that a cancelled task has left running."""
        kill.interrupt(connection)

    def stop(self, connection: Connection) -> bool:
        """Kill the query that another thread or task is in."""
        return kill.stop(connection)

    # -- the state of a session ----------------------------------------------------------------

    def remember_session(self, connection: Any, dialect: Any) -> Kept:
        """Return how to make a session what it is now."""
        return session_state.remember(connection, dialect)

    def reset_session(self, connection: Any, kept: Kept) -> None:
        """Make a session what it was."""
        session_state.reset(connection, kept)

    # -- statements ----------------------------------------------------------------------------

    @classmethod
    def upsert(cls, model: type[Any], values: Any, **row: Any) -> Any:
        """Return INSERT … ON DUPLICATE KEY UPDATE."""
        from dbscope.backends.mysql.upsert import on_duplicate_key

        return on_duplicate_key(model, values, **row)

    @classmethod
    def inserting(cls, table: Table, writer: Column[Any]) -> Inserting:
        """Return how rows are inserted unless they are there."""
        from dbscope.backends.mysql.inserting import MySQLInserting

        return MySQLInserting(table, writer)

    # -- what a watch asks ---------------------------------------------------------------------

    def process_of(self, connection: Connection) -> int | None:
        """Return the thread of the server that the driver was told of when it logged in."""
        driver: Any = connection.connection.driver_connection
        thread = getattr(driver, "thread_id", None)
        return None if thread is None else int(thread())

    def lock_waits(self, options: Mapping[str, Any]) -> LockWaits | None:
        """Return who can ask, by PyMySQL, whatever the driver is."""
        return MySQLLockWaits(self.url, dict(options)) if MySQLLockWaits.is_possible() else None

    def plan(self, connection: Connection, sql: str) -> list[str]:
        """Return the plan of a statement that has no values: the server plans by them.

        What it may call meanwhile (a function in a derived table) cannot write.
        """
        if "?" in sql:
            raise ConfigurationError("The server plans by the values, and they were not kept.")
        connection.exec_driver_sql("START TRANSACTION READ ONLY")
        rows = connection.exec_driver_sql(f"EXPLAIN {sql}").mappings()
        return [", ".join(f"{name} {row[name]}" for name in row if row[name]) for row in rows]

    # -- locks ---------------------------------------------------------------------------------

    @contextmanager
    def schema_lock(self, connection: Connection) -> Generator[None, None, None]:
        """Hold a lock of the session: CREATE TABLE ends the transaction, and this not."""
        connection.execute(LOCK_SCHEMA)
        try:
            yield
        except BaseException:
            connection.invalidate()  # the lock ends with its session
            raise
        connection.execute(UNLOCK_SCHEMA)

    def lock(self, connection: Connection, key: str, timeout: float | None) -> bool:
        """Take a lock of the session by its name."""
        seconds = FOR_EVER if timeout is None else timeout
        return bool(connection.scalar(LOCK, {"key": key, "seconds": seconds}) == 1)

    def unlock(self, connection: Connection, key: str) -> bool:
        """Give it back."""
        return bool(connection.scalar(UNLOCK, {"key": key}))


class MariaDB(MySQL):
    """One database of MariaDB, where SQLAlchemy was told that it is one."""

    features = replace(MySQL.features, name="mariadb")


def limit(connection: Connection, milliseconds: int | None) -> str:
    """Return the statement that limits the time of those that follow."""
    return session.limit(connection.info, connection.dialect, milliseconds)


def close(send: Callable[[Any], None], connection: Any) -> None:
    """Close a connection of PyMySQL, which takes it for an error if that was done before."""
    if connection.open:
        send(connection)
