"""`Database` and `AsyncDatabase`: what people hold. They only tie the other parts together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, cast, overload

from sqlalchemy import Engine, Executable, MetaData, Result, ScalarResult
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from typing_extensions import TypeVar

from dbscope.common import CommonDatabase, CurrentSession
from dbscope.engine import carry, schema
from dbscope.scopes.atomic import AsyncAtomic, AsyncSavepoint, SyncAtomic, SyncSavepoint
from dbscope.scopes.job import AsyncJobScope, SyncJobScope
from dbscope.unit.current import current

A = TypeVar("A", bound=AsyncSession, default=AsyncSession)
S = TypeVar("S", bound=Session, default=Session)
T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])
AsyncFunction = TypeVar("AsyncFunction", bound=Callable[..., Coroutine[Any, Any, Any]])


class AsyncDatabase(CommonDatabase[A]):
    """A database for async code: one session for each request, job or command.

    Nothing is opened before it is used.

    Args:
        url: for example `sqlite:///app.db` or `postgresql://user:password@host/name`;
            without a driver it is aiosqlite, psycopg or asyncmy.
        name: for messages.
        atomic_requests: a request is one transaction (Django's word); False: autocommit.
        engine: a ready engine, instead of a URL.
        engine_options: for `create_async_engine`; `pool_timeout` is 5 seconds unless given.
        session_options: for the session; `expire_on_commit` is False unless given.
        session_class: a subclass of `AsyncSession`, SQLModel's for example.
        manual_commit: "allow" `session.commit()` outside of `atomic`, or "forbid" it everywhere.

    Raises:
        ConfigurationError: the URL cannot be read, or its driver is not an async one.

    Example:
        >>> db = AsyncDatabase("sqlite:///app.db")
    """

    is_async = True
    usual_session = AsyncSession

    @cached_property
    def sync(self) -> Database[Session]:
        """The companion for plain code (`def` endpoints) on the same URL."""
        database: Database[Session] = Database(self.url, _companion=True, **self._settings)
        database.__dict__["async_"] = self
        return database

    @property
    def engine(self) -> AsyncEngine:
        """The engine, which is made at the first use; a forked child has its own connections."""
        return cast("AsyncEngine", self._source.engine)

    @property
    def sessionmaker(self) -> async_sessionmaker[A]:
        """The session factory. A session that it makes by hand belongs to no scope."""
        return cast("async_sessionmaker[A]", self._source.factory)

    @cached_property
    def scoped_session(self) -> async_scoped_session[A]:
        """SQLAlchemy's `async_scoped_session` over the current scope."""
        scoped = async_scoped_session(self.sessionmaker, scopefunc=current.get)
        scoped.registry = CurrentSession(self)
        return scoped

    @overload
    def scope(self, function: AsyncFunction, /) -> AsyncFunction: ...
    @overload
    def scope(self, /, *, atomic: bool = True) -> AsyncJobScope: ...
    def scope(self, function: Any = None, /, *, atomic: bool = True) -> Any:
        """Open a scope: commit at its end, or roll back if an exception leaves it; close always.

        A context manager, and a decorator that opens a fresh scope for each call. Inside another
        scope it has a session of its own, and once used a connection of its own.

        Args:
            function: what is decorated.
            atomic: False: autocommit, each statement and each flush its own transaction.
        """
        opened = AsyncJobScope(atomic=atomic)
        return opened if function is None else opened(function)

    @overload
    def atomic(self, function: AsyncFunction, /) -> AsyncFunction: ...
    @overload
    def atomic(self, /, *, savepoint: bool = True, durable: bool = False) -> AsyncAtomic: ...
    def atomic(
        self, function: Any = None, /, *, savepoint: bool = True, durable: bool = False
    ) -> Any:
        """Open a block: a transaction, or a savepoint inside one (Django's `atomic`).

        A context manager, and a decorator with and without parentheses. Nothing is sent before
        its first statement; a savepoint is left out where the transaction has done nothing yet.
        Outside any scope it opens one for itself.

        Args:
            function: what is decorated.
            savepoint: False: join the block around it, which fails if this one does.
            durable: DurableError unless it is outermost, so that leaving it means COMMIT.

        Raises:
            UnexpectedRollback: when left normally after a failure inside was swallowed.
            TypeError: a generator, or a plain function, is decorated.
        """
        block = AsyncAtomic(self._source, savepoint=savepoint, durable=durable)
        return block if function is None else block(function)

    def savepoint(self) -> AsyncSavepoint:
        """Open a savepoint. A context manager only; TransactionRequired outside a transaction."""
        return AsyncSavepoint(self._source)

    async def execute(self, statement: Executable, *args: Any, **kwargs: Any) -> Result[Any]:
        """Run a statement on the current session; see `AsyncSession.execute`."""
        return await self.session.execute(statement, *args, **kwargs)

    async def scalar(self, statement: Executable, *args: Any, **kwargs: Any) -> Any:
        """Return the first column of the first row; see `AsyncSession.scalar`."""
        return await self.session.scalar(statement, *args, **kwargs)

    async def scalars(self, statement: Executable, *args: Any, **kwargs: Any) -> ScalarResult[Any]:
        """Return the first column of all rows; see `AsyncSession.scalars`."""
        return await self.session.scalars(statement, *args, **kwargs)

    async def get_by_pk(self, entity: type[T], ident: Any, **kwargs: Any) -> T | None:
        """Return an object by its primary key, or None; see `AsyncSession.get`."""
        return await self.session.get(entity, ident, **kwargs)

    async def ensure_schema(self, metadata: MetaData) -> None:
        """Create the tables that are missing; safe when several processes start at once."""
        async with self.engine.connect() as connection:
            await connection.run_sync(schema.create_missing, metadata)

    async def ping(self) -> None:
        """Check that the database answers.

        Raises:
            DatabaseUnavailable: it cannot be reached.
            PoolTimeout: all connections are in use.
        """
        await carry.in_greenlet(self._source.ping)

    async def dispose(self) -> None:
        """Close all connections, of the companion too; the next use begins anew."""
        await self.dispose_own()
        if "sync" in self.__dict__:
            await carry.in_thread(self.sync.dispose)

    async def dispose_own(self) -> None:
        """Close the connections of the async kind only."""
        await carry.in_greenlet(self._source.dispose)

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncGenerator[None, None]:  # noqa: ARG002
        """Be the lifespan of an application, or a part of it: dispose at the end."""
        try:
            yield
        finally:
            await self.dispose()


class Database(CommonDatabase[S]):
    """A database for plain code; see `AsyncDatabase`, whose members it has.

    Under an event loop (`def` endpoints) its work is finished in a thread, never on the loop.

    Args:
        url: for example `sqlite:///app.db` or `postgresql://user:password@host/name`;
            without a driver it is sqlite3, psycopg or PyMySQL.
        name: for messages.
        atomic_requests: a request is one transaction (Django's word); False: autocommit.
        engine: a ready engine, instead of a URL.
        engine_options: for `create_engine`; `pool_timeout` is 5 seconds unless given.
        session_options: for the session; `expire_on_commit` is False unless given.
        session_class: a subclass of `Session`, SQLModel's for example.
        manual_commit: "allow" `session.commit()` outside of `atomic`, or "forbid" it everywhere.

    Raises:
        ConfigurationError: the URL cannot be read, or its driver is an async one.
    """

    is_async = False
    usual_session = Session

    @cached_property
    def async_(self) -> AsyncDatabase[AsyncSession]:
        """The companion for async code on the same URL."""
        database: AsyncDatabase[AsyncSession]
        database = AsyncDatabase(self.url, _companion=True, **self._settings)
        database.__dict__["sync"] = self
        return database

    @property
    def engine(self) -> Engine:
        """The engine, which is made at the first use; a forked child has its own connections."""
        return cast("Engine", self._source.engine)

    @property
    def sessionmaker(self) -> sessionmaker[S]:
        """The session factory. A session that it makes by hand belongs to no scope."""
        return cast("sessionmaker[S]", self._source.factory)

    @cached_property
    def scoped_session(self) -> scoped_session[S]:
        """SQLAlchemy's `scoped_session` over the current scope."""
        scoped = scoped_session(self.sessionmaker, scopefunc=current.get)
        scoped.registry = CurrentSession(self)
        return scoped

    @overload
    def scope(self, function: Function, /) -> Function: ...
    @overload
    def scope(self, /, *, atomic: bool = True) -> SyncJobScope: ...
    def scope(self, function: Any = None, /, *, atomic: bool = True) -> Any:
        """Open a scope; see `AsyncDatabase.scope`."""
        opened = SyncJobScope(atomic=atomic)
        return opened if function is None else opened(function)

    @overload
    def atomic(self, function: Function, /) -> Function: ...
    @overload
    def atomic(self, /, *, savepoint: bool = True, durable: bool = False) -> SyncAtomic: ...
    def atomic(
        self, function: Any = None, /, *, savepoint: bool = True, durable: bool = False
    ) -> Any:
        """Open a block; see `AsyncDatabase.atomic`."""
        block = SyncAtomic(self._source, savepoint=savepoint, durable=durable)
        return block if function is None else block(function)

    def savepoint(self) -> SyncSavepoint:
        """Open a savepoint. A context manager only; TransactionRequired outside a transaction."""
        return SyncSavepoint(self._source)

    def execute(self, statement: Executable, *args: Any, **kwargs: Any) -> Result[Any]:
        """Run a statement on the current session; see `Session.execute`."""
        return self.session.execute(statement, *args, **kwargs)

    def scalar(self, statement: Executable, *args: Any, **kwargs: Any) -> Any:
        """Return the first column of the first row; see `Session.scalar`."""
        return self.session.scalar(statement, *args, **kwargs)

    def scalars(self, statement: Executable, *args: Any, **kwargs: Any) -> ScalarResult[Any]:
        """Return the first column of all rows; see `Session.scalars`."""
        return self.session.scalars(statement, *args, **kwargs)

    def get_by_pk(self, entity: type[T], ident: Any, **kwargs: Any) -> T | None:
        """Return an object by its primary key, or None; see `Session.get`."""
        return self.session.get(entity, ident, **kwargs)

    def ensure_schema(self, metadata: MetaData) -> None:
        """Create the tables that are missing; safe when several processes start at once."""
        with self.engine.connect() as connection:
            schema.create_missing(connection, metadata)

    def ping(self) -> None:
        """Check that the database answers; see `AsyncDatabase.ping`."""
        self._source.ping()

    def dispose(self) -> None:
        """Close all connections of this kind; the next use begins anew.

        The async companion's are closed by `await db.async_.dispose()`, or by the lifespan.
        """
        if self._source.is_made:
            self.engine.dispose()

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncGenerator[None, None]:  # noqa: ARG002
        """Be the lifespan of an application, or part of it: dispose at the end."""
        try:
            yield
        finally:
            await carry.in_thread(self.dispose)
            if "async_" in self.__dict__:
                await self.async_.dispose_own()
