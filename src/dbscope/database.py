"""`Database`: what plain code holds. It only ties the other parts together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast, overload

from sqlalchemy import Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from typing_extensions import TypeVar

from dbscope import arguments
from dbscope.aio import threads
from dbscope.engine import advisory, schema
from dbscope.once.once import KeyOf, SyncOnce
from dbscope.queries import Queries, S
from dbscope.scopes import propagation as propagations
from dbscope.scopes.atomic import SyncAtomic, SyncSavepoint
from dbscope.scopes.backoff import checked
from dbscope.scopes.decorating import must_be_plain
from dbscope.scopes.entering import opening
from dbscope.scopes.gather import gather
from dbscope.scopes.registry import CurrentSession
from dbscope.scopes.retry import run
from dbscope.scopes.scope import SyncJobScope
from dbscope.unit import callsite
from dbscope.unit.current import current
from dbscope.unit.options import Classes
from dbscope.unit.policy import mode

if TYPE_CHECKING:
    from dbscope.async_database import AsyncDatabase

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])


class Database(Queries[S]):
    """A database for plain code; see `AsyncDatabase`, whose members it has.

    Under an event loop (`def` endpoints) its work is finished in a thread, never on the loop.

    Args:
        url: for example `sqlite:///app.db` or `postgresql://user:password@host/name`;
            without a driver it is sqlite3, psycopg or PyMySQL.
        name: for messages.
        atomic_requests: a request is one transaction (Django's word); False: autocommit; or what
            decides by the ASGI scope, `unsafe_methods` for example.
        engine: a ready engine, instead of a URL; in a test a connection in a transaction, which
            stays one: what is committed is a savepoint on it.
        engine_options: for `create_engine`; `pool_timeout` is 5 seconds unless given.
        session_options: for the session; `expire_on_commit` is False unless given.
        session_class: a subclass of `Session`, SQLModel's for example.
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
        allow_async_unsafe: let it be used on an event loop, which it stops while it waits (Django's
            word): for a notebook, or a program that does nothing else.

    Raises:
        ConfigurationError: the URL cannot be read, or its driver is an async one.
    """

    is_async = False
    usual_session = Session
    _async_kind: type[AsyncDatabase[Any]]  # the async module sets it

    @cached_property
    def async_(self) -> AsyncDatabase[AsyncSession]:
        """The companion for async code on the same URL."""
        database: AsyncDatabase[AsyncSession]
        database = self._async_kind(self.url, _companion=True, **self._for_companion())
        database.__dict__["sync"] = self
        database.events.share(self.events)
        self._share(database)
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
    def scope(self, /, *, atomic: bool = True, readonly: bool = False) -> SyncJobScope: ...
    @opening
    def scope(self, function: Any = None, /, *, atomic: bool = True, readonly: bool = False) -> Any:
        """Open a scope; see `AsyncDatabase.scope`."""
        if readonly:
            self._source.require("readonly")
        opened = SyncJobScope(mode(atomic=atomic, readonly=readonly))
        return opened if function is None else opened(function)

    @overload
    def atomic(self, function: Function, /) -> Function: ...
    @overload
    def atomic(
        self,
        /,
        *,
        savepoint: bool = True,
        durable: bool = False,
        propagation: propagations.Propagations | None = None,
        isolation: str | None = None,
        readonly: bool | None = None,
        timeout: float | None = None,
        retry: int = 0,
        rollback_for: type[BaseException] | Classes = (),
        no_rollback_for: type[BaseException] | Classes = (),
    ) -> SyncAtomic: ...
    @opening
    def atomic(
        self,
        function: Any = None,
        /,
        *,
        savepoint: bool = True,
        durable: bool = False,
        propagation: propagations.Propagations | None = None,
        isolation: str | None = None,
        readonly: bool | None = None,
        timeout: float | None = None,
        retry: int = 0,
        rollback_for: type[BaseException] | Classes = (),
        no_rollback_for: type[BaseException] | Classes = (),
    ) -> Any:
        """Open a block; see `AsyncDatabase.atomic`."""
        kind = propagations.propagation(propagation, savepoint=savepoint)
        asked = propagations.asked(
            kind,
            durable=durable,
            isolation=isolation,
            readonly=readonly,
            timeout=timeout,
            retry=retry,
            rollback_for=rollback_for,
            no_rollback_for=no_rollback_for,
        )
        block: Any
        if kind in propagations.WITHOUT:
            block = propagations.SyncNonTransactionalBlock(self._source, kind)
        else:
            block = SyncAtomic(self._source, asked)
        return block if function is None else block(function)

    @opening
    def savepoint(self) -> SyncSavepoint:
        """Open a savepoint. A context manager only; TransactionRequired outside a transaction."""
        return SyncSavepoint(self._source)

    @opening
    def once(
        self, key: KeyOf, *, fingerprint: Any = None, keep: timedelta = timedelta(days=1)
    ) -> SyncOnce:
        """Do something once; see `AsyncDatabase.once`."""
        return SyncOnce(self._source, key, fingerprint, keep)

    def run(self, function: Callable[[], T], attempts: int = 3) -> T:
        """Run the function in a transaction, after a conflict again; see `AsyncDatabase.run`."""
        arguments.check_call("the function of run()", function)
        must_be_plain(function, "run")
        retries = checked(attempts, "attempts", 1) - 1
        return cast(
            "T", run(SyncAtomic(self._source, where=callsite.of(function)), function, retries)
        )

    def gather(self, *functions: Callable[[], T], limit: int | None = None) -> list[T]:
        """Run functions at once, in threads, each in its own scope; see `AsyncDatabase.gather`.

        The first failure is raised when those that run have ended; no further one is begun.
        """
        self._source.check_loop()
        return gather(functions, limit)

    @contextmanager
    def advisory_lock(self, key: str, *, timeout: float | None = None) -> Generator[None]:
        """Hold a lock of the server by this name; see `AsyncDatabase.advisory_lock`."""
        lock = advisory.AdvisoryLock(self._source, key, timeout)
        lock.acquire()
        failed: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            lock.release(failed)

    def ensure_schema(self, metadata: MetaData) -> None:
        """Create the tables that are missing; safe when several processes start at once."""
        with self.engine.connect() as connection:
            schema.create_missing(connection, metadata, self._source.backend)

    def ping(self) -> None:
        """Check that the database answers; see `AsyncDatabase.ping`."""
        self._source.ping()

    def dispose(self) -> None:
        """Close all connections of this kind; the next use begins anew.

        The async companion's are closed by `await db.async_.dispose()`, or by the lifespan.
        """
        if self._source.is_made:
            self._source.dispose()

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncGenerator[None, None]:  # noqa: ARG002
        """Be the lifespan of an application, or part of it: dispose at the end."""
        try:
            yield
        finally:
            await threads.in_thread(self.dispose)
            if "async_" in self.__dict__:
                await self.async_.dispose_own()
