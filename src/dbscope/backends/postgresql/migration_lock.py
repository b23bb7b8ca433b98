"""One process migrates, the others wait: a lock that vanishes with the process that holds it.

It belongs to the session that migrates, so neither can outlive the other. A pooler would keep such
a session, and the lock with it; there the lock belongs to a transaction of a second connection,
and is looked at again before each revision begins and ends.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from dbscope.backends.migrating import STILL, me, wait_for
from dbscope.backends.postgresql import pooler
from dbscope.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

KEY = 7233464250984980852  # "dbmigrat" in ASCII

# Locks are of one database. They are tried, not waited for: a statement that waits has a snapshot,
# for which the CREATE INDEX CONCURRENTLY of the one that migrates would wait.
ASK = text(
    "SELECT pg_try_advisory_lock(:key) FROM set_config('application_name', :me, false)"
).bindparams(key=KEY)
WHO = text(
    "SELECT concat_ws(', ', nullif(application_name, ''), 'backend ' || pid)"
    " FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND datid = database"
    " AND datname = current_database() AND (classid::bigint << 32 | objid::bigint) = :key"
).bindparams(key=KEY)
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


@contextmanager
def held(engine: Engine, timeout: float) -> Generator[Connection]:
    """Give a connection while the lock of its database is held.

    Args:
        engine: with a pool of its own; disposing it gives the lock back.
        timeout: seconds.
    """
    with engine.connect() as connection:
        is_pooled = pooler.is_pooled(connection)
        connection.rollback()
        if is_pooled:
            with held_beside(engine, timeout) as still:
                yield connection.execution_options(**{STILL: still})
        else:
            wait_for(lambda: _ask(connection), lambda: _who(connection), timeout)
            yield connection


def _ask(connection: Connection) -> bool:
    granted = bool(connection.scalar(ASK, {"me": me()}))
    connection.commit()
    return granted


def _who(connection: Connection) -> str | None:
    who: str | None = connection.scalar(WHO)
    connection.rollback()
    return who


@contextmanager
def held_beside(engine: Engine, timeout: float) -> Generator[Callable[[], None], None, None]:
    """Hold the lock in a transaction of another connection, which a pooler cannot take away."""
    beside = Engine(
        engine.pool.recreate(),
        engine.dialect,
        engine.url,
        execution_options=engine.get_execution_options(),
    )
    try:
        with beside.connect() as keeper:
            wait_for(lambda: _ask_in_transaction(keeper), lambda: _who(keeper), timeout)

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
    granted = bool(keeper.scalar(ASK_IN_TRANSACTION, {"me": me()}))
    if not granted:
        keeper.rollback()  # the pooler has others who want the server's connection
    return granted
