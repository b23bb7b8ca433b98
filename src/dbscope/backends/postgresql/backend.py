"""PostgreSQL: what it can do, and how it is told."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dbscope.backends import errors, limits
from dbscope.backends.base import Backend, Options
from dbscope.backends.features import Features
from dbscope.backends.postgresql import (
    connections,
    drivers,
    login,
    plan,
    pooler,
    session_settings,
    session_state,
    simple,
    stale_plans,
    verify_commit,
)
from dbscope.backends.postgresql.lock_waits import PostgreSQLLockWaits
from dbscope.backends.postgresql.session_state import MARK
from dbscope.backends.upsert import on_conflict
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from sqlalchemy import URL, Column, Connection, Engine, Insert, Table
    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dbscope.backends.base import Renew
    from dbscope.backends.doctor import Doctor
    from dbscope.backends.inserting import Inserting
    from dbscope.backends.lock_waits import LockWaits
    from dbscope.backends.migrating import Migrating
    from dbscope.backends.notifications import Notifications
    from dbscope.unit.unit import Unit

# Any number will do, as long as it is always the same: "dbscope" in ASCII.
SCHEMA_LOCK = 0x6462_7363_6F70_65
LIMIT = text("SELECT set_config('lock_timeout', :milliseconds, true)")
LOCK = text(
    "SELECT pg_backend_pid() AS process, pg_advisory_lock(:number), "
    f"pg_advisory_lock_shared({MARK}, 0)"
)
UNLOCK = text(f"SELECT pg_advisory_unlock(:number), pg_advisory_unlock_shared({MARK}, 0)")
WAITS_FOR_NOBODY = text(  # who speaks its protocol only has no such setting
    "SELECT coalesce(current_setting('synchronous_standby_names', true), '') = ''"
)
# It reports them whenever they change (libpq, "PQparameterStatus").
REPORTED = ("default_transaction_read_only", "in_hot_standby")


class PostgreSQL(Backend):
    """One database of PostgreSQL."""

    features = Features(
        name="postgresql",
        family="postgresql",
        readonly=True,
        reader=True,
        statement_timeout=True,
        isolation=True,
        session_settings=True,
        verify_commit=True,
        advisory_locks=True,
        reset_session=True,
        upsert=True,
        upsert_returns=True,
    )
    drivers = drivers.DRIVERS
    default_drivers = ("psycopg", "psycopg")
    # No round trip to say so, and none to take it back.
    alone_options: ClassVar[Options] = {"isolation_level": "AUTOCOMMIT"}
    readonly_options: ClassVar[Options] = {"postgresql_readonly": True}

    def __init__(self, url: URL, name: str, dialect: Dialect | type[Dialect]) -> None:
        super().__init__(url, name, dialect)
        self.pooler = pooler.Pooler(name)

    @classmethod
    def doctor(cls) -> Doctor:
        """Return what `dbscope doctor` wants to know."""
        from dbscope.backends.postgresql.doctor import PostgreSQLDoctor

        return PostgreSQLDoctor()

    @classmethod
    def migrating(cls) -> Migrating:
        """Return what differs when revisions are written and run."""
        from dbscope.backends.postgresql.migrating import PostgreSQLMigrating

        return PostgreSQLMigrating()

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler was found when connecting."""
        return self.pooler.found

    def engine_options(self, *, is_async: bool) -> dict[str, Any]:
        """Return what `create_engine` needs for the driver."""
        return connections.engine_options(self.url.get_driver_name()) if is_async else {}

    def install(self, engine: Engine) -> None:
        """Read the answer to COMMIT where the driver does not, and look for a pooler."""
        connections.install(engine)
        pooler.install(engine, self.pooler)

    def refuse_writes(self, connection: Any, dialect: Any) -> None:
        """Make a new connection one that cannot write."""
        pooler.refuse_writes(connection, dialect, self.pooler)

    def login_state(self, error: Exception) -> str | None:
        """Return the SQLSTATE of an error of connecting; psycopg does not know it by itself."""
        if not login.is_psycopg(error):
            return errors.sqlstate(error)
        if errors.is_permanent(error, None):  # by its words: no need to ask for the code
            return None
        return login.state_of(error)

    def blame(self, error: BaseException) -> str | None:
        """Say whether an error is that of a pooler."""
        return pooler.blame(self.pooler, errors.sqlstate(error))

    # -- transactions --------------------------------------------------------------------------

    def isolation_options(self, level: str) -> Options:
        """Return SQLAlchemy's option for an isolation level."""
        # What it means there, and asyncpg does not know the other word.
        return super().isolation_options("READ COMMITTED" if level == "READ UNCOMMITTED" else level)

    def tell_deadline(self, unit: Unit, connection: Connection) -> None:
        """Set `statement_timeout` for the transaction."""
        limits.tell(unit, connection, limit)

    def forget_deadline(self, unit: Unit, connection: Connection) -> None:
        """Set it to what it is without us."""
        limits.forget(unit, connection, limit)

    def set_session(self, connection: Connection, values: Mapping[str, str]) -> None:
        """Set the values for the transaction that has just begun."""
        session_settings.tell(connection, values)

    def note_commit(self, unit: Unit, connection: Connection) -> None:
        """Note the id of the transaction, and of the life of the server that gave it."""
        verify_commit.note(unit, connection)

    def outlives_cancellation(self, connection: Connection) -> bool:
        """Tell whether COMMIT waits for no standby.

        A cancellation ends that wait, and not what it waits with: the primary shows it, and the
        standby may not have it (PostgreSQL, "canceling wait for synchronous replication").
        """
        return bool(connection.scalar(WAITS_FOR_NOBODY))

    # -- failures ------------------------------------------------------------------------------

    def became_read_only(self, connection: Connection) -> bool:
        """Tell whether the server has reported that its sessions cannot write."""
        driver: Any = connection.connection.driver_connection
        values = [reported(driver, name) for name in REPORTED]
        return "on" in values or None in values  # a pooler keeps it to itself

    def renewing(self, engine: Engine) -> Renew:
        """Return what renews a plan that the server does not take any more."""
        return stale_plans.renewing(engine)

    def interrupt(self, connection: Connection) -> None:
        """Let asyncpg ask the server to stop what a cancelled task has left running."""
        connections.interrupt(connection)

    def stop(self, connection: Connection) -> bool:
        """Ask the server to cancel, where the driver does not by itself."""
        return connections.stop(connection)

    # -- what a watch asks ---------------------------------------------------------------------

    def process_of(self, connection: Connection) -> int | None:
        """Return the process of the server that the driver was told of when it logged in."""
        return process_of(connection)

    def lock_waits(self, options: Mapping[str, Any]) -> LockWaits | None:
        """Return who can ask, by psycopg, whatever the driver is."""
        possible = PostgreSQLLockWaits.is_possible()
        return PostgreSQLLockWaits(self.url, dict(options)) if possible else None

    def plan(self, connection: Connection, sql: str) -> list[str]:
        """Return the generic plan: what has no values is planned for any of them."""
        return plan.ask(connection, sql)

    # -- the state of a session ----------------------------------------------------------------

    def remember_session(self, connection: Any, dialect: Any) -> str:
        """Return how to make a session what it is now."""
        return session_state.remember(connection, dialect)

    def reset_session(self, connection: Any, kept: str) -> None:
        """Make a session what it was."""
        session_state.reset(connection, kept)

    # -- statements ----------------------------------------------------------------------------

    @classmethod
    def upsert(cls, model: type[Any], values: Any, **row: Any) -> Any:
        """Return INSERT … ON CONFLICT … DO UPDATE."""
        from sqlalchemy.dialects.postgresql import insert

        return on_conflict(insert(model), values, **row)

    @classmethod
    def inserting(cls, table: Table, writer: Column[Any]) -> Inserting:
        """Return how rows are inserted unless they are there."""
        from dbscope.backends.postgresql.inserting import PostgreSQLInserting

        return PostgreSQLInserting(table, writer)

    def notifying(self, insert: Insert, channel: str) -> Any:
        """Return an INSERT with NOTIFY."""
        from dbscope.backends.postgresql import notifications

        return notifications.notifying(insert, channel)

    def notifications(self, engine: Engine | AsyncEngine, channel: str) -> Notifications | None:
        """Return who listens, by a driver of which it is known how."""
        from dbscope.backends.postgresql.notifications import Listener

        return Listener(engine, channel) if engine.dialect.driver in self.drivers else None

    # -- locks ---------------------------------------------------------------------------------

    def schema_lock(self, connection: Connection) -> AbstractContextManager[object]:
        """Take a lock that ends with the transaction."""
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
        return super().schema_lock(connection)

    def lock(self, connection: Connection, key: str, timeout: float | None) -> bool:
        """Take an advisory lock of the session."""
        if timeout is not None:
            milliseconds = max(1, round(timeout * 1000))  # 0 would be: as long as it takes
            connection.execute(LIMIT, {"milliseconds": str(milliseconds)}).close()
        try:
            row = connection.execute(LOCK, {"number": number_of(key)}).one()
        except DBAPIError as error:
            if errors.sqlstate(error.orig) == errors.LOCK_NOT_AVAILABLE:
                return False
            raise
        if process_of(connection) not in (None, row.process):
            raise ConfigurationError(
                "The lock would stay in a server connection of the pooler in between (PgBouncer, "
                "say), for whoever comes next. Give this database a URL of the server itself."
            )
        return True

    def unlock(self, connection: Connection, key: str) -> bool:
        """Give it back."""
        return bool(connection.scalar(UNLOCK, {"number": number_of(key)}))


def limit(connection: Connection, milliseconds: int | None) -> str:  # noqa: ARG001
    """Return the statement that limits the time of those that follow in the transaction."""
    value = "DEFAULT" if milliseconds is None else milliseconds
    return f"SET LOCAL statement_timeout TO {value}"


def reported(driver: Any, name: str) -> str | None:
    """Return a setting of the session as the driver was told of it; None: it was not."""
    if hasattr(driver, "get_settings"):  # asyncpg
        value: str | None = getattr(driver.get_settings(), name, None)
        return value
    info = getattr(driver, "info", None)
    return None if info is None else info.parameter_status(name)


def number_of(key: str) -> int:
    """Return the number of a key: locks have 64 bits instead of a name."""
    digest = hashlib.blake2b(key.encode(), digest_size=8, person=b"dbscope").digest()
    return int.from_bytes(digest, "big", signed=True)


def process_of(connection: Connection) -> int | None:
    """Return the process of the server that the driver was told of when it logged in."""
    driver: Any = connection.connection.driver_connection
    if simple.is_asyncpg(driver):
        return int(driver.get_server_pid())
    pid = getattr(getattr(driver, "info", None), "backend_pid", None)
    return None if pid is None else int(pid)
