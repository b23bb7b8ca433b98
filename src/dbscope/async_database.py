"""`AsyncDatabase`: what async code holds. It only ties the other parts together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cached_property
from typing import Any, cast, overload

from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session
from typing_extensions import TypeVar

from dbscope import arguments
from dbscope.aio import concurrency, shield, threads
from dbscope.database import Database
from dbscope.engine import advisory, schema
from dbscope.once.once import AsyncOnce, KeyOf
from dbscope.queries import A, AsyncQueries
from dbscope.scopes import propagation as propagations
from dbscope.scopes.atomic import AsyncAtomic, AsyncSavepoint
from dbscope.scopes.backoff import checked
from dbscope.scopes.entering import opening
from dbscope.scopes.gather import gather_async
from dbscope.scopes.registry import CurrentSession
from dbscope.scopes.retry import run_async
from dbscope.scopes.scope import AsyncJobScope
from dbscope.unit import callsite
from dbscope.unit.current import current
from dbscope.unit.options import Classes
from dbscope.unit.policy import mode

T = TypeVar("T")
AsyncFunction = TypeVar("AsyncFunction", bound=Callable[..., Coroutine[Any, Any, Any]])


class AsyncDatabase(AsyncQueries[A]):
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
    def scope(self, /, *, atomic: bool = True, readonly: bool = False) -> AsyncJobScope: ...
    @opening
    def scope(self, function: Any = None, /, *, atomic: bool = True, readonly: bool = False) -> Any:
        """Open a scope: commit at its end, or roll back if an exception leaves it; close always.

        A context manager, and a decorator that opens a fresh scope for each call. Inside another
        scope it has a session of its own, and once used a connection of its own. Do not `yield`
        from a generator inside it: whoever iterates would be in it, too (PEP 567).

        Args:
            function: what is decorated.
            atomic: False: autocommit, each statement and each flush its own transaction.
            readonly: writing is a ReadOnlyViolation, and reads autocommit.
        """
        if readonly:
            self._source.require("readonly")
        opened = AsyncJobScope(mode(atomic=atomic, readonly=readonly))
        return opened if function is None else opened(function)

    @overload
    def atomic(self, function: AsyncFunction, /) -> AsyncFunction: ...
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
    ) -> AsyncAtomic: ...
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
        """Open a block: a transaction, or a savepoint inside one (Django's `atomic`).

        A context manager, and a decorator with and without parentheses. Nothing is sent before
        its first statement; a savepoint is left out where the transaction has done nothing yet.
        Outside any scope it opens one for itself.

        Args:
            function: what is decorated.
            savepoint: False: join the block around it, which fails if this one does.
            durable: DurableError unless it is outermost, so that leaving it means COMMIT.
            propagation: Spring's word for what is done about a transaction around it.
            isolation: of the transaction, for example "SERIALIZABLE"; for an outermost block.
            readonly: True: writing is a ReadOnlyViolation; for an outermost block.
            timeout: seconds for all of the block, COMMIT not counted.
            retry: of a decorated function only: how often it may be done again after a conflict
                with another transaction, see `run`.
            rollback_for: exceptions that roll the block back though their base is one of
                `no_rollback_for`; all others do anyway.
            no_rollback_for: exceptions that leave the block and yet keep what was done in it,
                unless a statement has failed there.

        Raises:
            AttributeMismatch: the transaction around it has another isolation, or may write.
            TransactionTimeout: the time was up; the block is rolled back.
            UnexpectedRollback: when left normally after a failure inside was swallowed.
            TypeError: a generator, or a plain function, is decorated; or a block has `retry`.
        """
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
            block = propagations.AsyncNonTransactionalBlock(self._source, kind)
        else:
            block = AsyncAtomic(self._source, asked)
        return block if function is None else block(function)

    @opening
    def savepoint(self) -> AsyncSavepoint:
        """Open a savepoint. A context manager only; TransactionRequired outside a transaction."""
        return AsyncSavepoint(self._source)

    @opening
    def once(
        self, key: KeyOf, *, fingerprint: Any = None, keep: timedelta = timedelta(days=1)
    ) -> AsyncOnce:
        """Do something once: a later call with the same key returns what the first one has.

        The key is a row in the transaction of the work itself, so it is there exactly if the work
        is; two at once wait for each other. A context manager, and a decorator, around a block of
        its own (see `atomic`). It also tells what became of a COMMIT whose answer was lost.

        Args:
            key: a text; of a decorated function also a function of its arguments.
            fingerprint: of the input, to tell another one under the same key: a text, bytes, or
                what JSON can hold; of a decorated function also a function of its arguments.
            keep: for how long it is kept; then it may be done again, see `dbscope.once.purge`.

        Raises:
            KeyReused: the key was used with another fingerprint.

        Example:
            >>> async with db.once(f"payment:{payment.id}") as once:
            ...     if not once.done:
            ...         once.result = await pay(payment)
        """
        return AsyncOnce(self._source, key, fingerprint, keep)

    async def run(self, function: Callable[[], Awaitable[T]], attempts: int = 3) -> T:
        """Run the function in a transaction; after a conflict with another one, do all of it again.

        Each attempt has a fresh session, and begins after a random pause, whose limit doubles
        (20 ms, 40 ms, …, 1 s). Hooks are run of the attempt that won. Inside a transaction it is
        one block of that and is tried once: only the owner of a transaction can do it again.

        Args:
            function: async, without arguments; it must take what it changes from `db.session`.
            attempts: how many at most, the first one included.

        Returns:
            What the function returns; None if it was left by `Rollback`.

        Raises:
            Exception: the error of the last attempt, with notes about those before; at once, if
                it is not retryable (see `is_retryable`).

        Example:
            >>> await db.run(lambda: transfer(1, 2, amount=10))
        """
        arguments.check_call("the function of run()", function)
        retries = checked(attempts, "attempts", 1) - 1
        atomic = AsyncAtomic(self._source, where=callsite.of(function))
        return cast("T", await run_async(atomic, function, retries))

    async def gather(
        self, *functions: Callable[[], Awaitable[T]], limit: int | None = None
    ) -> list[T]:
        """Run functions at once, each in a scope, with a session and a transaction, of its own.

        Each is committed or rolled back as a whole when it ends. The first failure cancels the
        others, and is raised when they have cleaned up; those that had ended stay committed.

        Args:
            functions: async, without arguments.
            limit: how many run at the same time; each needs a connection. None: all of them.

        Returns:
            What they return, in their order.

        Raises:
            Exception: that of the first that failed; other failures are noted on it.
            TypeError: something cannot be called: a coroutine instead of a function.

        Example:
            >>> first, second = await db.gather(partial(report, 1), partial(report, 2))
        """
        return await gather_async(functions, limit)

    @asynccontextmanager
    async def advisory_lock(
        self,
        key: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncGenerator[None]:
        """Hold a lock of the server by this name, which outlives commits: a job that runs once.

        It has a connection of its own, which counts like any second one. SQLite has none.

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
        lock = advisory.AdvisoryLock(self._source, key, timeout)
        await concurrency.in_greenlet(lock.acquire)
        failed: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            work = concurrency.in_greenlet(lock.release, failed)
            await shield.to_the_end(work, limit=self._source.finish_timeout)

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
        try:
            yield
        finally:
            await self.dispose()


Database._async_kind = AsyncDatabase  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
