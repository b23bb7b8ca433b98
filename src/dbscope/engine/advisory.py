"""`db.advisory_lock`: a lock of the server by a name, which outlives commits.

It belongs to a session of the server, and so has a connection of its own as long as it is held
(PostgreSQL, "13.3.5. Advisory Locks"; https://mariadb.com/kb/en/get_lock/). In a session of the
pool it would stay behind for whoever comes next.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from dbscope.backends import errors
from dbscope.errors import DatabaseUnavailable, LockTimeout, PoolTimeout
from dbscope.unit.current import open_scope
from dbscope.watch.events import AdvisoryLockReleased, AdvisoryLockTaken, AdvisoryLockWanted

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from dbscope.engine.source import EngineSource

logger = logging.getLogger("dbscope")


class AdvisoryLock:
    """One lock, held from `acquire` to `release`; both are carried like a session.

    Args:
        source: the database.
        key: the name of what is locked.
        timeout: seconds to wait for it; None: as long as it takes.
    """

    def __init__(self, source: EngineSource, key: str, timeout: float | None) -> None:
        self.source = source
        self.key = key
        self.timeout = timeout
        self.connection: Connection | None = None

    def acquire(self) -> None:
        """Take a connection, and get the lock.

        Raises:
            LockTimeout: somebody else has it for too long.
            PoolTimeout: there is no connection to hold it by.
            ConfigurationError: a pooler is in between.
        """
        tell = self.source.events.tell
        scope = open_scope()
        unit = None if scope is None else scope.units.get(self.source)
        tell(AdvisoryLockWanted, scope, unit, self, self.key)
        connection = self._connect()
        try:
            self._lock(connection)
            connection.rollback()  # as good as COMMIT: the lock is the session's
        except BaseException as error:
            tell(AdvisoryLockTaken, self, error)
            connection.invalidate()  # the lock may be got after all
            connection.close()
            if isinstance(error, DBAPIError | DatabaseUnavailable):
                raise self._failure(error) from error
            raise
        self.connection = connection
        tell(AdvisoryLockTaken, self, None)

    def _connect(self) -> Connection:
        self.source.check_loop()
        try:
            with self.source.seconds.beside(self, self.source.sync_engine):
                return self.source.sync_engine.connect()
        except PoolExhausted as error:
            self.source.events.tell(AdvisoryLockTaken, self, error)
            raise PoolTimeout(f"{self} needs a connection of its own.") from error

    def _lock(self, connection: Connection) -> None:
        if not self.source.backend.lock(connection, self.key, self.timeout):
            raise LockTimeout(f"{self}:")

    def _failure(self, error: DBAPIError | DatabaseUnavailable) -> Exception:
        if isinstance(error, DatabaseUnavailable):
            return DatabaseUnavailable(f"{self}: {error.what}")
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
        self.source.events.tell(AdvisoryLockReleased, self)
        problem = self._unlock(connection)
        if problem is None:
            return
        lost = f"{self} was lost while it was held: {problem}."
        if failed is None:
            raise DatabaseUnavailable(lost)
        logger.warning(lost)

    def _unlock(self, connection: Connection) -> object:
        problem: object = None
        try:
            if not self.source.backend.unlock(connection, self.key):
                problem = "the server does not know of it"
            connection.rollback()
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
