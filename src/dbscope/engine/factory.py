"""The engine and the session factory of one database: made on first use, looked at, and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Integer, Select, literal_column, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import sessionmaker

from dbscope.aio.concurrency import Greenlets, Threads
from dbscope.backends import registry
from dbscope.backends.driver import Driver
from dbscope.engine import (
    connecting,
    events,
    forks,
    given,
    guard,
    loops,
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
from dbscope.engine.watching import Watching
from dbscope.errors import (
    DatabaseUnavailable,
    PoolTimeout,
)
from dbscope.masking import masked
from dbscope.unit.unit import Unit
from dbscope.watch.counters import COUNTED
from dbscope.watch.dispatch import Events
from dbscope.watch.pools import PoolState

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dbscope.backends.base import Backend
    from dbscope.engine.settings import Settings
    from dbscope.unit.hooks import Hook
    from dbscope.unit.ownership import Concurrency
    from dbscope.unit.source import Source

FINISH_TIMEOUT = 2.0  # seconds
SIGN_OF_LIFE: Select[Any] = select(literal_column("1", Integer))  # some want a FROM
SESSION_OPTIONS = {"expire_on_commit": False, "autoflush": True, "close_resets_only": False}


class Factory:
    """The engine and sessions of one database.

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
        self.seconds = nested_connections.SecondConnections(cast("Source", self))
        self.loops = loops.Loops(str(self))
        self.sandboxes = sandboxed.Sandboxes(self)
        self.backend: Backend = registry.backend_of(url, str(self), settings.engine)
        self.sql_family: str = self.backend.features.family
        settings.check(self.backend, session_class, is_async=is_async)
        self.watching = Watching(
            self.backend, settings, lambda: self.sync_engine, is_async=is_async
        )
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
        self.driver: Driver = Driver()  # which one it is, is known once there is an engine
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
        perhaps = given.among(self.settings.engine_options, self.url)
        connecting.install(engine, backend, f"{self} ({masked(self.url)})", perhaps)
        events.install(engine, backend)
        guard.install(engine, driver, self.events)
        if self.settings.reset_session:
            session_state.install(engine, self.events, backend)
        transaction.install(engine, driver, backend.renewing(engine))
        backend.install_last(engine)
        self.driver = driver
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

    def has_sandbox(self) -> bool:
        """Tell whether a test has a sandbox of it open."""
        return bool(self.sandboxes.opened)

    def require(self, *features: str) -> None:
        """Raise ConfigurationError for what its database would ignore."""
        registry.require(self.backend, *features, where=f"{self}: ")

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
            self.engines.dispose()

    def forget(self) -> None:
        """Start anew in a forked child: the parent's sockets and locks are not ours to use."""
        self.loops = loops.Loops(str(self))
        self.sandboxes = sandboxed.Sandboxes(self)
        self.engines.forget()
        self.watching.start_anew()
        self.events.start_anew()

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
