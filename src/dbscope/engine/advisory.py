"""`db.advisory_lock`: a lock of the server by a name, which outlives commits.

It belongs to a session of the server, and so has a connection of its own as long as it is held
(PostgreSQL, "13.3.5. Advisory Locks"; https://mariadb.com/kb/en/get_lock/). In a session of the
pool it would stay behind for whoever comes next.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from dbscope import arguments
from dbscope.backends import errors
from dbscope.backends.postgresql.session_state import MARK
from dbscope.errors import ConfigurationError, DatabaseUnavailable, LockTimeout, PoolTimeout

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from dbscope.engine.source import EngineSource

logger = logging.getLogger("dbscope")

LOCK_NOT_AVAILABLE = "55P03"
FOR_EVER = 365 * 24 * 3600  # seconds: a server of MariaDB wants a number
LIMIT = text("SELECT set_config('lock_timeout', :milliseconds, true)")
LOCK = text(
    "SELECT pg_backend_pid() AS process, pg_advisory_lock(:number), "
    f"pg_advisory_lock_shared({MARK}, 0)"
)
UNLOCK = text(f"SELECT pg_advisory_unlock(:number), pg_advisory_unlock_shared({MARK}, 0)")
# The lock is one of the server, so its name has that of the database in it.
NAME = "CONCAT('dbscope ', SHA1(CONCAT(DATABASE(), ' ', :key)))"
MYSQL_LOCK = text(f"SELECT GET_LOCK({NAME}, :seconds)")
MYSQL_UNLOCK = text(f"SELECT RELEASE_LOCK({NAME})")


def number_of(key: str) -> int:
    """Return the number of a key: PostgreSQL's locks have 64 bits instead of a name."""
    digest = hashlib.blake2b(key.encode(), digest_size=8, person=b"dbscope").digest()
    return int.from_bytes(digest, "big", signed=True)


class AdvisoryLock:
    """One lock, held from `acquire` to `release`; both are carried like a session.

    Args:
        source: the database.
        key: the name of what is locked.
        timeout: seconds to wait for it; None: as long as it takes.
    """

    def __init__(self, source: EngineSource, key: str, timeout: float | None) -> None:
        source.require("advisory_locks")
        arguments.check("key of advisory_lock()", key, arguments.TEXT, TypeError)
        arguments.check("timeout", timeout, arguments.PATIENCE)
        self.source = source
        self.key = key
        self.timeout = timeout
        self.connection: Connection | None = None
        self.is_postgresql = source.sql_family == "postgresql"

    def acquire(self) -> None:
        """Take a connection, and get the lock.

        Raises:
            LockTimeout: somebody else has it for too long.
            PoolTimeout: there is no connection to hold it by.
            ConfigurationError: a pooler is in between.
        """
        connection = self._connect()
        try:
            self._lock(connection)
            connection.commit()
        except BaseException as error:
            connection.invalidate()  # the lock may be got after all
            connection.close()
            if isinstance(error, DBAPIError):
                raise self._failure(error) from error
            raise
        self.connection = connection

    def _connect(self) -> Connection:
        self.source.check_loop()
        try:
            with self.source.seconds.beside(self, self.source.sync_engine):
                return self.source.sync_engine.connect()
        except PoolExhausted as error:
            raise PoolTimeout(f"{self} needs a connection of its own.") from error

    def _lock(self, connection: Connection) -> None:
        if not self.is_postgresql:
            seconds = FOR_EVER if self.timeout is None else self.timeout
            if connection.scalar(MYSQL_LOCK, {"key": self.key, "seconds": seconds}) != 1:
                raise LockTimeout(f"{self}:")
            return
        if self.timeout is not None:
            milliseconds = max(1, round(self.timeout * 1000))  # 0 would be: as long as it takes
            connection.execute(LIMIT, {"milliseconds": str(milliseconds)}).close()
        row = connection.execute(LOCK, {"number": number_of(self.key)}).one()
        if process_of(connection) not in (None, row.process):
            raise ConfigurationError(
                f"{self} would be left in a connection of the pooler in between (PgBouncer, say), "
                "for whoever comes next. Give this database a URL of the server itself."
            )

    def _failure(self, error: DBAPIError) -> Exception:
        if errors.sqlstate(error.orig) == LOCK_NOT_AVAILABLE:
            return LockTimeout(f"{self}:")
        if error.connection_invalidated or errors.is_away(error, errors.sqlstate(error.orig)):
            return DatabaseUnavailable(f"{self}: the connection was lost: {error.orig}.")
        return error

    def release(self, failed: BaseException | None) -> None:
        """Give the lock back, and its connection.

        Args:
            failed: what has left the block, which is not replaced.

        Raises:
            DatabaseUnavailable: the lock was lost while it was needed.
        """
        connection, self.connection = self.connection, None
        if connection is None:
            return
        problem = self._unlock(connection)
        if problem is None:
            return
        lost = f"{self} was lost while it was held: {problem}."
        if failed is None:
            raise DatabaseUnavailable(lost)
        logger.warning(lost)

    def _unlock(self, connection: Connection) -> object:
        statement = UNLOCK if self.is_postgresql else MYSQL_UNLOCK
        told: Any = {"number": number_of(self.key)} if self.is_postgresql else {"key": self.key}
        problem: object = None
        try:
            if not connection.scalar(statement, told):
                problem = "the server does not know of it"
            connection.commit()
        except (SQLAlchemyError, DatabaseUnavailable) as error:
            problem = getattr(error, "orig", error)
            connection.invalidate()
        except BaseException:
            connection.invalidate()
            raise
        finally:
            connection.close()
        return problem

    def __str__(self) -> str:
        return f"advisory_lock({self.key!r}) of {self.source}"


def process_of(connection: Connection) -> int | None:
    """Return the process of the server that the driver was told of when it logged in."""
    driver: Any = connection.connection.driver_connection
    if hasattr(driver, "get_server_pid"):  # asyncpg
        return int(driver.get_server_pid())
    pid = getattr(getattr(driver, "info", None), "backend_pid", None)
    return None if pid is None else int(pid)
