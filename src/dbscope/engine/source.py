"""Where sessions come from: the engine and session factory of one database, made on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, Select, literal_column, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from dbscope.aio.concurrency import Greenlets, Threads
from dbscope.backends import registry
from dbscope.backends.sandbox import is_sandboxed, set_readonly
from dbscope.engine import (
    begin,
    connecting,
    events,
    forks,
    guard,
    loops,
    lost_answer,
    nested_connections,
    notes,
    sandboxed,
    session_state,
    transaction,
)
from dbscope.engine.async_session import async_session_class
from dbscope.engine.engines import Engines, plain
from dbscope.engine.pool import Out, capacity, idle, size
from dbscope.engine.session import session_class
from dbscope.engine.settings import values_of
from dbscope.engine.watching import Watching
from dbscope.errors import (
    DatabaseUnavailable,
    PoolTimeout,
    TransactionEndedOutside,
)
from dbscope.masking import masked
from dbscope.unit import deadline
from dbscope.unit.block import Outcome
from dbscope.unit.policy import Mode
from dbscope.unit.unit import Unit
from dbscope.watch.counters import COUNTED
from dbscope.watch.dispatch import Events
from dbscope.watch.events import OutcomeVerified
from dbscope.watch.pools import PoolState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import URL, Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

    from dbscope.backends.base import Backend
    from dbscope.backends.driver import Driver
    from dbscope.engine.settings import Settings
    from dbscope.unit.current import Scope
    from dbscope.unit.hooks import Hook
    from dbscope.unit.ownership import Concurrency

FINISH_TIMEOUT = 2.0  # seconds
SIGN_OF_LIFE: Select[Any] = select(literal_column("1", Integer))  # some want a FROM
SESSION_OPTIONS = {"expire_on_commit": False, "autoflush": True, "close_resets_only": False}


class EngineSource:
    """The engine and sessions of one database; the units are given this.

    Args:
        url: with the driver that is to be used.
        settings: what was given to the database.
        session_class: SQLAlchemy's session, or a subclass of it.
        run_pending_hooks: runs the hooks that a commit by hand made due.
    """

    def __init__(
        self,
        url: URL,
        settings: Settings,
        *,
        is_async: bool,
        session_class: type[Any],
        run_pending_hooks: Callable[[Unit], None],
    ) -> None:
        self.url = url
        self.settings = settings
        self.name = settings.name
        self.pool_name = f"{settings.name}/{'async' if is_async else 'sync'}"
        self.is_async = is_async
        self.is_loops_own = is_async or settings.allow_async_unsafe  # may wait on an event loop
        self.forbid_manual_commit = settings.manual_commit == "forbid"
        self.atomic_requests = settings.atomic_requests
        self.finish_timeout = FINISH_TIMEOUT
        self.retry_codes = settings.retry_codes
        self.idle_limit = settings.idle_limit
        self.client_wait = settings.client_wait
        self.always_begins = settings.session_settings is not None
        self.run_pending_hooks = run_pending_hooks
        self.captures: Callable[[list[Hook]], list[Hook]] | None = None  # a test, what is due
        self.events = Events()
        self.seconds = nested_connections.SecondConnections(self)
        self.loops = loops.Loops(str(self))
        self.sandboxes = sandboxed.Sandboxes(self)
        self.backend: Backend = registry.backend_of(url, str(self), settings.engine)
        self.sql_family: str = self.backend.features.family
        settings.check(self.backend, session_class, is_async=is_async)
        self.watching = Watching(self.backend, settings)
        self.engines = Engines(
            url,
            backend=self.backend,
            is_async=is_async,
            given=settings.engine,
            options=settings.engine_options,
            prepare=self._prepare,
        )
        self._session_options: dict[str, Any] = SESSION_OPTIONS | dict(settings.session_options)
        self._plain_class = self._session_options.pop("sync_session_class", None)
        self._session_class = session_class
        self._factory: Any = None
        self._out = Out()
        self._world: Concurrency | None = None
        self.futures_only = False  # known once there is an engine
        self.runs_in_batches: bool = False  # likewise
        self.commits_last = self.backend.features.commits_last
        forks.sources.add(self)

    @property
    def world(self) -> Concurrency:
        """Return how units of this database wait."""
        if self._world is None:
            self._world = Greenlets() if self.is_async else Threads()
        return self._world

    # -- made on first use ---------------------------------------------------------------------

    @property
    def engine(self) -> Engine | AsyncEngine:
        """Return the engine, which is made at the first call."""
        return self.engines.main

    @property
    def sync_engine(self) -> Engine:
        """Return the plain engine, which for async is the one inside."""
        return plain(self.engines.main)

    def _prepare(self, engine: Engine) -> None:
        backend, driver = self.backend, registry.driver_of(engine.dialect)
        self._out.watch(engine)
        backend.install(engine)
        forks.watch(engine, backend.file)
        connecting.install(engine, backend, f"{self} ({masked(self.url)})")
        events.install(engine, backend)
        guard.install(engine, driver, self.events)
        if self.settings.reset_session:
            session_state.install(engine, self.events, backend)
        transaction.install(engine, driver, backend.renewing(engine))
        backend.install_last(engine)
        self.futures_only = self.is_async and driver.futures_only(engine.dialect)
        self.runs_in_batches = driver.batches_parameters
        self.sandboxes.prepared(self, engine)

    @property
    def factory(self) -> Any:
        """Return the session factory, which is made at the first call."""
        if self._factory is None:
            notes.watch()
            bind: Any = self.engine
            if self.is_async:
                cls: Any = async_session_class(self._session_class, self._plain_class)
                self._factory = async_sessionmaker(bind, class_=cls, **self._session_options)
            else:
                cls = session_class(self._session_class)
                self._factory = sessionmaker(bind, class_=cls, **self._session_options)
        return self._factory

    # -- what units ask for --------------------------------------------------------------------

    def has_sandbox(self) -> bool:
        """Tell whether a test has a sandbox of it open."""
        return bool(self.sandboxes.opened)

    def require(self, *features: str) -> None:
        """Raise ConfigurationError for what its database would ignore."""
        registry.require(self.backend, *features, where=f"{self}: ")

    def make_unit(self, scope: Scope) -> Unit:
        """Return a new unit for this scope."""
        mode = scope.mode_of(self)
        if mode is Mode.READONLY:
            self.require("readonly")
        return Unit(self, scope, mode)

    def make_session(self) -> tuple[Session, Session | AsyncSession]:
        """Return a new plain session, and the object that people are given for it."""
        handle = self.factory()
        return getattr(handle, "sync_session", handle), handle

    def before_transaction(self, unit: Unit, bind: Engine | Connection) -> None:
        """Check the event loop, count second connections, and wait for the turn to write."""
        self.check_loop()
        if self.settings.session_settings is not None:
            unit.settings = values_of(self.settings.session_settings)
        if self.sandboxes.opened:
            return
        if self.sandboxes.was_opened:
            self.sandboxes.check()
        self.engines.require(bind, unit.scope)
        if unit.scope.parent is not None:
            self.seconds.want(unit, bind.engine)
        self.backend.before_transaction(unit)

    def before_write(self, unit: Unit) -> None:
        """Wait for the turn to write, if the transaction has only read so far."""
        if not self.sandboxes.opened:
            self.backend.before_write(unit)

    def bind_of(self, unit: Unit, bind: Engine | Connection) -> Engine | Connection:
        """Return the engine for the work of a unit: another one reads, or is a sandbox's."""
        if bind is not self.engines.plain:
            return bind
        if self.sandboxes.opened:
            return self.sandboxes.line().engine  # type: ignore[no-any-return]
        return (self.engines.reader or bind) if unit.is_readonly else bind

    def begin_with(self, unit: Unit, bind: Engine | Connection) -> Mapping[str, Any]:
        """Return SQLAlchemy's options for a transaction that is about to begin."""
        return begin.options_of(unit, bind, self.engines)

    def after_begin(self, unit: Unit, connection: Connection) -> None:
        """Send what the database is told of a transaction, now that it is known."""
        self.seconds.have(unit)
        if is_sandboxed(connection):
            set_readonly(connection, unit.is_readonly)
        else:
            self.backend.after_begin(unit, connection, has_reader=self.engines.has_reader)
        if unit.timed:
            self.backend.tell_deadline(unit, connection)
        if self.settings.session_settings is not None:
            self.backend.set_session(connection, unit.settings)

    def keep_time(self, unit: Unit) -> None:
        """Raise if the time of the unit is up; else tell the database what is left."""
        deadline.check(unit)
        if unit.connection is not None:
            self.backend.tell_deadline(unit, unit.connection)

    def before_commit(self, unit: Unit) -> None:
        """Look whether the transaction is still there, so that COMMIT is one."""
        connection = unit.connection
        if connection is None:
            return
        transaction.check(unit, connection, _driver_of(connection))
        if connection.invalidated:
            return
        if unit.timed:
            self.backend.forget_deadline(unit, connection)
        if self.sandboxes.opened:
            return
        if self.settings.verify_commit and unit.first_write is not None and unit.proof is None:
            self.backend.note_commit(unit, connection)

    def ended_outside(self, unit: Unit) -> TransactionEndedOutside | None:
        """Look whether the transaction is still there, so that ROLLBACK is one."""
        connection = unit.connection
        if connection is None or connection.invalidated or connection.closed:
            return None
        return transaction.ended(unit, connection, _driver_of(connection).transaction_status)

    def end_statement(self, unit: Unit, *, again: bool) -> bool:
        """End the statement that somebody else is in, who will come back; False: it has no use.

        A connection of a thread cannot be closed instead; that of a task can.
        """
        connection = unit.connection
        if connection is None or connection.invalidated or (again and self.is_async):
            return False
        return self.backend.stop(connection)

    def outcome_of(self, unit: Unit) -> Outcome:
        """Ask a fresh connection what became of a transaction whose COMMIT got no answer."""
        found = lost_answer.outcome(self.sync_engine, unit)
        if found is not Outcome.UNKNOWN:
            self.events.tell(OutcomeVerified, unit, found)
        return found

    def after_transaction(self, unit: Unit) -> None:
        """Let the next one write."""
        self.seconds.have(unit)
        self.backend.after_transaction(unit)

    def describe_wait(self, unit: Unit) -> str:
        """Say, for a PoolTimeout, who waited, and whether an outer scope held a connection."""
        told = f"{unit.scope} waited for a connection of {self}."
        holder = nested_connections.holder_around(self, unit)
        return told if holder is None else f"{told} {nested_connections.describe(holder)}"

    def check_second(self, unit: Unit) -> None:
        """Refuse a transaction of its own inside this one's, where it could never come to be."""
        self.backend.check_second(unit)
        if unit.connection is not None:
            nested_connections.check_room(self, unit)

    def check_loop(self) -> None:
        """Let the database be used in the event loop that runs, or where none does.

        Raises:
            ConfigurationError: its connections belong to another loop.
            SynchronousOnlyOperation: to wait for it would stop this one.
        """
        if self.is_async:
            if not self.sandboxes.opened:
                self.loops.check(self.engines)
        elif not self.is_loops_own:
            loops.check_blocking(str(self))

    # -- the end -------------------------------------------------------------------------------

    def dispose(self) -> None:
        """Close all connections; those of another event loop can only be forgotten."""
        self.sandboxes.dispose()
        if self.is_async:
            self.loops.dispose(self.engines.made)
        else:
            self.engines.dispose(close=True)

    def forget(self) -> None:
        """Start anew in a forked child: the parent's sockets and locks are not ours to use."""
        self.loops = loops.Loops(str(self))
        self.sandboxes = sandboxed.Sandboxes(self)
        self.engines.forget()

    def ping(self) -> None:
        """Ask the database for a sign of life; carried like a session."""
        self.check_loop()
        try:
            with self.sync_engine.connect() as connection:
                connection.execute(SIGN_OF_LIFE).close()
        except PoolExhausted as error:
            raise PoolTimeout(f"ping() of {self}:") from error
        except DBAPIError as error:
            raise DatabaseUnavailable(f"{self} does not answer: {error.orig}.") from error

    def stats(self) -> dict[str, int]:
        """Return the counters, and the state of the pool."""
        return {name: self.events.counters[name] for name in COUNTED.values()} | {
            "pool_size": sum(map(size, self.engines.made)),
            "pool_checked_out": self._out.count(self.engines.made),
        }

    def pools(self) -> list[PoolState]:
        """Return what this database and its companion have of connections: each its own."""
        sources = [each() for each in self.sandboxes.sources]
        return [source.pool() for source in sources if source is not None]

    def pool(self) -> PoolState:
        """Return what all engines of this kind have of connections."""
        made = self.engines.made
        most = [capacity(engine) for engine in made]
        limit = None if None in most else sum(each for each in most if each is not None)
        return PoolState(self.pool_name, self._out.count(made), sum(map(idle, made)), limit)

    @property
    def is_made(self) -> bool:
        """Tell whether the engine was made."""
        return bool(self.engines.made)

    def __str__(self) -> str:
        return f"database {self.name!r}"


def _driver_of(connection: Connection) -> Driver:
    return registry.driver_of(connection.engine.dialect)
