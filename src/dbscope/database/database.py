"""`AsyncDatabase` and `Database`: what people hold. They only tie the other parts together."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from dbscope.aio import concurrency, threads
from dbscope.database.blocks import AsyncBlocks, SyncBlocks
from dbscope.database.calls import AsyncCalls, SyncCalls
from dbscope.database.queries import A, AsyncQueries, Queries, S
from dbscope.database.server import AsyncServer, SyncServer
from dbscope.scopes.registry import CurrentSession
from dbscope.unit.current import current
from dbscope.watch.database import begin_application, end_application


class AsyncDatabase(AsyncQueries[A], AsyncBlocks, AsyncCalls, AsyncServer):
    """A database for async code: one session for each request, job or command.

    Nothing is opened before it is used.

    Args:
        url: for example `sqlite:///app.db` or `postgresql://user:password@host/name`;
            without a driver it is our own of SQLite, psycopg or asyncmy.
        name: for messages.
        atomic_requests: a request is one transaction (Django's word); False: autocommit; or what
            decides by the ASGI scope, `unsafe_methods` for example.
        engine: a ready engine, instead of a URL; in a test a connection in a transaction, which
            stays one: what is committed is a savepoint on it.
        engine_options: for `create_async_engine`; `pool_timeout` is 5 seconds unless given.
        session_options: for the session; `expire_on_commit` is False unless given.
        session_class: a subclass of `AsyncSession`, SQLModel's for example.
        manual_commit: "allow" `session.commit()` outside of `atomic`, or "forbid" it everywhere.
        verify_commit: when the answer of a COMMIT is lost, find out what became of it; one round
            trip more for each transaction that writes. PostgreSQL only.
        session_settings: returns names and values that each transaction sets for itself, for row
            level security: `lambda: {"app.tenant": tenant.get()}`. PostgreSQL only.
        idle_limit: seconds; who sits idle longer in a transaction is logged (1 s in debug mode).
        client_wait: seconds that a transaction waits for its client, who sends or reads slowly,
            before it is rolled back (408, or the end of the stream); None: no limit.
        retry_codes: SQLSTATEs and native codes that are conflicts as well, for `run` and its kin:
            `["1205"]` for lock waits of MariaDB that took too long.
        reset_session: end what a scope has left in its session of the server (locks, SET,
            temporary tables) when the connection comes back; one round trip more for each.
            PostgreSQL, MySQL and MariaDB only.
        allow_async_unsafe: let `db.sync` be used on an event loop, which it stops while it waits
            (Django's word): for a notebook, or a program that does nothing else.

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
        database: Database[Session] = Database(self.url, _companion=True, **self._for_companion())
        database.__dict__["async_"] = self
        database.events.share(self.events)
        self._share(database)
        return database

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

    async def dispose(self) -> None:
        """Close all connections, of the companion too; the next use begins anew."""
        await self.dispose_own()
        if "sync" in self.__dict__:
            await threads.in_thread(self.sync.dispose)

    async def dispose_own(self) -> None:
        """Close the connections of the async kind only."""
        await concurrency.in_greenlet(self._source.dispose)

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncGenerator[None, None]:  # noqa: ARG002
        """Be the lifespan of an application, or a part of it: dispose at the end."""
        begin_application(self._source)
        try:
            yield
        finally:
            await self.dispose()
            await threads.in_thread(end_application, self._source)


class Database(Queries[S], SyncBlocks, SyncCalls, SyncServer):
    """A database for plain code; see `AsyncDatabase`, whose members and arguments it has.

    Under an event loop (`def` endpoints) its work is finished in a thread, never on the loop.

    Args:
        url: without a driver it is sqlite3, psycopg or PyMySQL.
        engine_options: for `create_engine`.
        session_class: a subclass of `Session`.
        allow_async_unsafe: let it be used on an event loop, which it stops while it waits (Django's
            word): for a notebook, or a program that does nothing else.

    Raises:
        ConfigurationError: the URL cannot be read, or its driver is an async one.
    """

    is_async = False
    usual_session = Session

    @cached_property
    def async_(self) -> AsyncDatabase[AsyncSession]:
        """The companion for async code on the same URL."""
        database: AsyncDatabase[AsyncSession]
        database = AsyncDatabase(self.url, _companion=True, **self._for_companion())
        database.__dict__["sync"] = self
        database.events.share(self.events)
        self._share(database)
        return database

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

    def dispose(self) -> None:
        """Close all connections of this kind; the next use begins anew.

        The async companion's are closed by `await db.async_.dispose()`, or by the lifespan.
        """
        if self._source.is_made:
            self._source.dispose()

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncGenerator[None, None]:  # noqa: ARG002
        """Be the lifespan of an application, or part of it: dispose at the end."""
        begin_application(self._source)
        try:
            yield
        finally:
            await threads.in_thread(self.dispose)
            if "async_" in self.__dict__:
                await self.async_.dispose_own()
            await threads.in_thread(end_application, self._source)
