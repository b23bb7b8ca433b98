"""What is asked of the server beside work: a lock by a name, the tables, a sign of life."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, cast

from sqlalchemy import Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

from dbscope.aio import concurrency
from dbscope.database.advisory import AsyncLocking, SyncLocking
from dbscope.engine import schema
from dbscope.scopes.entering import opening

if TYPE_CHECKING:
    from dbscope.engine.source import EngineSource

E = TypeVar("E", Engine, AsyncEngine)


class HasEngine(Generic[E]):
    """A database with an engine."""

    _source: EngineSource

    @property
    def engine(self) -> E:
        """The engine, which is made at the first use; a forked child has its own connections."""
        return cast("E", self._source.engine)


class AsyncServer(HasEngine[AsyncEngine]):
    """What an `AsyncDatabase` asks its server."""

    @opening
    def advisory_lock(self, key: str, *, timeout: float | None = None) -> AsyncLocking:
        """Hold a lock of the server by this name, which outlives commits: a job that runs once.

        A context manager, and a decorator. It has a connection of its own, which counts like any
        second one. SQLite has none.

        Args:
            key: the name; everybody who locks it in this database waits for the others.
            timeout: seconds to wait for it; None: as long as it takes.

        Raises:
            LockTimeout: somebody else has it for too long.
            PoolTimeout: there is no connection to hold it by.
            DatabaseUnavailable: when left: the lock was lost while it was held.
            ConfigurationError: the database has none, or a pooler is in between.

        Example:
            >>> async with db.advisory_lock("invoices"):
            ...     await write_invoices()
        """
        return AsyncLocking(self._source, key, timeout)

    async def ensure_schema(self, metadata: MetaData) -> None:
        """Create the tables that are missing; safe when several processes start at once."""
        self._source.check_loop()
        async with self.engine.connect() as connection:
            await connection.run_sync(schema.create_missing, metadata, self._source.backend)

    async def ping(self) -> None:
        """Check that the database answers.

        Raises:
            DatabaseUnavailable: it cannot be reached.
            PoolTimeout: all connections are in use.
        """
        await concurrency.in_greenlet(self._source.ping)


class SyncServer(HasEngine[Engine]):
    """What a `Database` asks its server."""

    @opening
    def advisory_lock(self, key: str, *, timeout: float | None = None) -> SyncLocking:
        """Hold a lock of the server by this name; see `AsyncDatabase.advisory_lock`."""
        return SyncLocking(self._source, key, timeout)

    def ensure_schema(self, metadata: MetaData) -> None:
        """Create the tables that are missing; safe when several processes start at once."""
        with self.engine.connect() as connection:
            schema.create_missing(connection, metadata, self._source.backend)

    def ping(self) -> None:
        """Check that the database answers; see `AsyncDatabase.ping`."""
        self._source.ping()
