"""Where sessions come from: the engine and session factory of one database, made on first use."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from dbscope.engine import carry, events, guard, here, postgresql, sqlite
from dbscope.engine.carry import Greenlets, Threads
from dbscope.engine.pool import ThreadQueuePool
from dbscope.engine.session import async_session_class, session_class
from dbscope.engine.url import missing_driver
from dbscope.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    PoolTimeout,
    UnexpectedRollback,
)
from dbscope.unit.unit import Unit, is_by_hand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncSession

    from dbscope.unit.current import Scope
    from dbscope.unit.turn import World

POOL_TIMEOUT = 5.0  # seconds
FINISH_TIMEOUT = 2.0  # seconds
COUNTERS = (
    "sessions",  # opened
    "transactions",  # for which BEGIN was sent
    "commits",
    "rollbacks",
    "unexpected_rollbacks",  # a failure was swallowed
    "outcomes_unknown",  # the answer to COMMIT was lost
    "concurrent_uses",  # refused
    "second_connections",  # taken while a scope around held one
    "connections_discarded",  # found closed, or in a transaction
    "hooks_run",
    "hooks_failed",
)
SESSION_OPTIONS = {"expire_on_commit": False, "autoflush": True, "close_resets_only": False}


class EngineSource:
    """The engine and sessions of one database; the units are given this.

    Args:
        url: with the driver that is to be used.
        name: of the database, for messages.
        engine: a ready engine, instead of making one.
        engine_options: for `create_engine`, over our defaults.
        session_options: for the session, over our defaults.
        session_class: a subclass of SQLAlchemy's session.
        run_due: runs the hooks that a commit by hand made due.
    """

    def __init__(
        self,
        url: URL,
        name: str,
        *,
        is_async: bool,
        engine: Engine | AsyncEngine | None,
        engine_options: Mapping[str, Any],
        session_options: Mapping[str, Any],
        session_class: type[Any],
        atomic_requests: bool,
        forbid_manual_commit: bool,
        run_due: Callable[[Unit], None],
    ) -> None:
        self.url = url
        self.name = name
        self.is_async = is_async
        self.forbid_manual_commit = forbid_manual_commit
        self.finish_timeout = FINISH_TIMEOUT
        self.run_due = run_due
        self.counters: Counter[str] = Counter()
        self.atomic_requests = atomic_requests
        self.loop: asyncio.AbstractEventLoop | None = None
        self._given = engine
        self._engine_options = engine_options
        self._session_options: dict[str, Any] = SESSION_OPTIONS | dict(session_options)
        self._session_class = session_class
        self._engine: Engine | AsyncEngine | None = None
        self._factory: Any = None
        self._world: World | None = None
        self._mutex = threading.Lock()
        self.waits_plainly = False  # known once there is an engine
        self._is_sqlite = url.get_backend_name() == "sqlite"
        _sources.add(self)

    @cached_property
    def _queue(self) -> sqlite.WriteQueue | None:
        return sqlite.write_queue(self.url) if self._is_sqlite else None

    @property
    def world(self) -> World:
        """Return how units of this database wait."""
        if self._world is None:
            self._world = Greenlets() if self.is_async else Threads()
        return self._world

    # -- made on first use ---------------------------------------------------------------------

    @property
    def engine(self) -> Engine | AsyncEngine:
        """Return the engine, which is made at the first call."""
        if self._engine is None:
            with self._mutex:
                if self._engine is None:
                    self._engine = self._make_engine()
        return self._engine

    @property
    def sync_engine(self) -> Engine:
        """Return the plain engine, which for async is the one inside."""
        engine = self.engine
        return engine.sync_engine if isinstance(engine, AsyncEngine) else engine

    def _make_engine(self) -> Engine | AsyncEngine:
        engine = self._given or self._create_engine()
        plain = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        told = f"{self} ({self.url.render_as_string(hide_password=True)})"
        events.install(plain, told, sqlite.interrupt if self._is_sqlite else postgresql.interrupt)
        guard.install(plain, self.counters)
        self.waits_plainly = self.is_async and here.waits_plainly(plain.dialect)
        if self._is_sqlite:
            sqlite.install(plain)
        return engine

    def _create_engine(self) -> Engine | AsyncEngine:
        options: dict[str, Any] = {"pool_timeout": POOL_TIMEOUT, "pool_reset_on_return": None}
        if not self.is_async:
            options["poolclass"] = ThreadQueuePool
        if self._is_sqlite:
            options |= sqlite.engine_options(self.url, is_async=self.is_async)
        elif self.is_async and self.url.get_driver_name() == "psycopg":
            options |= postgresql.engine_options()
        arguments = options.get("connect_args", {}) | self._engine_options.get("connect_args", {})
        options |= {**self._engine_options, "connect_args": arguments}
        create = create_async_engine if self.is_async else create_engine
        try:
            return create(self.url, **options)
        except ImportError as error:
            raise missing_driver(self.url, error) from error

    @property
    def _bind(self) -> Any:
        return self.engine

    @property
    def factory(self) -> Any:
        """Return the session factory, which is made at the first call."""
        if self._factory is None:
            if self.is_async:
                cls: Any = async_session_class(self._session_class)
                self._factory = async_sessionmaker(self._bind, class_=cls, **self._session_options)
            else:
                cls = session_class(self._session_class)
                self._factory = sessionmaker(self._bind, class_=cls, **self._session_options)
        return self._factory

    # -- what units ask for --------------------------------------------------------------------

    def make_unit(self, scope: Scope) -> Unit:
        """Return a new unit for this scope."""
        return Unit(self, scope, atomic=scope.is_atomic(self))

    def make_session(self) -> tuple[Session, Session | AsyncSession]:
        """Return a new plain session, and the object that people are given for it."""
        handle = self.factory()
        return getattr(handle, "sync_session", handle), handle

    def before_transaction(self, unit: Unit, *, will_write: bool) -> None:
        """Check the event loop, count second connections, and wait for the turn to write."""
        if self.is_async:
            self._check_loop()
        if unit.scope.parent is not None:
            self._count_second_connection(unit)
        if self._queue is None:
            return
        if not unit.blocks and unit.session is not None and not is_by_hand(unit.session):
            pass  # in autocommit a statement is all of its transaction
        elif unit.scope.will_write and not self._queue.is_held_around(unit):
            will_write = True
        if will_write:
            self._queue.enter(unit, sqlite.BUSY_TIMEOUT)

    def before_write(self, unit: Unit) -> None:
        """Wait for the turn to write, if the transaction has only read so far."""
        if self._queue is not None:
            self._queue.enter(unit, sqlite.BUSY_TIMEOUT)

    def after_begin(self, unit: Unit, connection: Connection) -> None:
        """Send SQLite's BEGIN, now that it is known whether the unit will write."""
        if self._queue is not None and connection.info.get("dbscope.begin"):
            try:
                sqlite.begin(connection, immediate=self._queue.writer is unit)
            except BaseException as error:
                unit.mark_broken(error)
                raise

    def before_commit(self, unit: Unit) -> None:
        """Look for an error that went past SQLAlchemy: COMMIT would become ROLLBACK by it."""
        connection = unit.connection
        if self._look is None or connection is None or connection.invalidated:
            return
        if self._look(connection.connection.dbapi_connection) is guard.Local.IN_ERROR:
            raise UnexpectedRollback(f"In {unit.scope}:")

    @cached_property
    def _look(self) -> guard.Look | None:
        return guard.look_for_error_of(self.sync_engine)

    def after_transaction(self, unit: Unit) -> None:
        """Let the next one write."""
        if self._queue is not None:
            self._queue.leave(unit)

    def describe_wait(self, unit: Unit) -> str:
        """Say, for a PoolTimeout, who waited, and whether an outer scope held a connection."""
        told = f"{unit.scope} waited for a connection of {self}."
        if self._holder_around(unit) is not None:
            told += (
                " A scope around it holds another one: a `scope()` inside a scope takes a second."
            )
        return told

    def _count_second_connection(self, unit: Unit) -> None:
        if self._holder_around(unit) is not None:
            self.counters["second_connections"] += 1

    def _holder_around(self, unit: Unit) -> Unit | None:
        for scope in unit.scope.with_ancestors():
            other = scope.units.get(self)
            if other is not None and other is not unit and other.connection is not None:
                return other
        return None

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self.loop is None:
            self.loop = loop
        elif self.loop is not loop:
            raise ConfigurationError(
                f"{self} has connections of another event loop. Use one loop, or call "
                "`await db.dispose()` before the first loop ends."
            )

    # -- the end -------------------------------------------------------------------------------

    def dispose(self) -> None:
        """Close all connections; those of another event loop can only be forgotten."""
        if self._engine is not None:
            ours = self.loop is None or self.loop is asyncio.get_running_loop()
            self.sync_engine.dispose(close=ours)
        self.loop = None

    def forget(self) -> None:
        """Start anew in a forked child: the parent's sockets and locks are not ours to use."""
        self.loop = None
        self._mutex = threading.Lock()
        sqlite.forget_writers()
        if self._engine is not None:
            self.sync_engine.dispose(close=False)

    def ping(self) -> None:
        """Ask the database for a sign of life; carried like a session."""
        if self.is_async:
            self._check_loop()
        try:
            with self.sync_engine.connect() as connection:
                connection.exec_driver_sql("SELECT 1").close()
        except PoolExhausted as error:
            raise PoolTimeout(f"ping() of {self}:") from error
        except DBAPIError as error:
            raise DatabaseUnavailable(f"{self} does not answer: {error.orig}.") from error

    def stats(self) -> dict[str, int]:
        """Return the counters, and the state of the pool."""
        pool: Any = self.sync_engine.pool if self._engine is not None else None
        return {name: self.counters[name] for name in COUNTERS} | {
            "pool_size": pool.size() if hasattr(pool, "size") else 0,
            "pool_checked_out": pool.checkedout() if hasattr(pool, "checkedout") else 0,
        }

    @property
    def is_made(self) -> bool:
        """Tell whether the engine was made."""
        return self._engine is not None

    def __str__(self) -> str:
        return f"database {self.name!r}"


_sources: WeakSet[EngineSource] = WeakSet()


def _after_fork() -> None:
    carry.forget_threads()
    for source in list(_sources):
        source.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
