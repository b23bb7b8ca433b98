"""Puts lines in the place of a database's pools, and keeps their connections between two tests."""

from __future__ import annotations

import atexit
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import NullPool

from dbscope.backends.sandbox import rules_of
from dbscope.engine import pool as pools
from dbscope.errors import ConfigurationError
from dbscope.testing.connection import CHARACTERISTICS, SandboxConnection
from dbscope.testing.homes import Anywhere, Home, InThread
from dbscope.testing.line import Line

if TYPE_CHECKING:
    from sqlalchemy import Engine, Pool

    from dbscope.engine.sandboxed import Sandboxes
    from dbscope.engine.source import EngineSource


class Keeper:
    """The connections of one database for its sandboxes.

    Args:
        source: the database; its companion is served by the same connections.
    """

    home: Home

    def __init__(self, source: EngineSource) -> None:
        self.prepare(source, source.sync_engine)
        is_async = self.engine.dialect.is_async
        self.home = InThread(cancels=self.rules.cancels) if is_async else Anywhere()
        # One connection is all of a database in memory; else the sandbox has some of its own, so
        # that those of the application stay in their event loops.
        is_shared = source.backend.is_memory and pools.capacity(self.engine) == 1
        self.pool: Pool = self.engine.pool if is_shared else self.engine.pool.recreate()
        self.is_own = not is_shared
        if not source.driver.batches_parameters:  # whose threads have ended by then
            _close_at_exit(self)

    def prepare(self, source: EngineSource, engine: Engine) -> None:
        """Know the database, and the engine whose dialect speaks to it."""
        self.source = source
        self.family = source.sql_family
        self.rules = rules_of(self.family)
        self.engine = engine
        self._taken: dict[Any, Any] = {}

    def line(self) -> Line:
        """Return a new line."""
        return Line(self, self.engine, self.home, self.rules, self.pool.connect)

    # -- in the place of the pools -------------------------------------------------------------

    def take_over(self, source: EngineSource, engine: Engine | None) -> None:
        """Let the engine of a database, if it was made, have connections of sandboxes only."""
        if engine is None or engine in self._taken:
            return
        pool = engine.pool
        own = SandboxPool if source is self.source else OtherPool
        engine.pool = own(source.sandboxes, pool, engine)
        self._taken[engine] = pool
        if source is self.source:
            _know_connections(engine.dialect)

    def give_back(self) -> None:
        """Let the engines have their own pools again."""
        for engine, pool in self._taken.items():
            engine.pool = pool
            _forget_connections(engine.dialect)
        self._taken = {}

    def close(self) -> None:
        """Close the connections, and end their home."""
        try:
            if self.is_own:
                self.home.call(self.pool.dispose)
        finally:
            self.home.close()


class SandboxPool(NullPool):
    """Gives connections of the sandbox that the running code belongs to.

    Args:
        sandboxes: of the database.
        pool: whose place it takes.
        engine: the same of its engine.
    """

    def __init__(self, sandboxes: Sandboxes, pool: Pool, engine: Engine) -> None:
        self.sandboxes = sandboxes
        self.instead_of = pool
        super().__init__(self._make, dialect=engine.dialect)

    def dbscope_line(self) -> Line:
        """Return the line that the running code is to use."""
        return self.sandboxes.line()  # type: ignore[no-any-return]

    def _make(self) -> Any:
        line = self.dbscope_line()
        if line.proxy is None:
            line.home.call(line.open)  # by which SQLAlchemy gets to know the server
        return SandboxConnection(self.sandboxes, line)

    def dispose(self) -> None:
        """Leave the sandbox as it is: an application that ends inside of it closes its pool."""

    def recreate(self) -> Any:
        """Return the same: it has nothing that could be old."""
        return self

    def checkedout(self) -> int:
        """Return how many are out of the pool whose place it takes."""
        pool: Any = self.instead_of
        return int(pool.checkedout()) if hasattr(pool, "checkedout") else 0


class OtherPool(SandboxPool):
    """The same of the companion: its sessions use the connection of the other kind."""

    def _make(self) -> Any:
        raise ConfigurationError(
            "In a sandbox there is one connection, of the database that it was opened by. Use the "
            "engine of that one; sessions of `sessionmaker`, scopes and blocks of its companion do."
        )


# -- what SQLAlchemy's dialects set and ask ----------------------------------------------------


def _know_connections(dialect: Any) -> None:
    for name in CHARACTERISTICS:
        for verb in ("set", "get"):
            method = getattr(dialect, f"{verb}_{name}", None)
            if method is not None:
                own = _set if verb == "set" else _get
                setattr(dialect, f"{verb}_{name}", partial(own, name, method))
    dialect.detect_autocommit_setting = partial(_detect, dialect.detect_autocommit_setting)


def _forget_connections(dialect: Any) -> None:
    names = [f"{verb}_{name}" for name in CHARACTERISTICS for verb in ("set", "get")]
    for name in [*names, "detect_autocommit_setting"]:
        dialect.__dict__.pop(name, None)


def _set(name: str, method: Any, connection: Any, value: Any) -> None:
    if isinstance(connection, SandboxConnection):
        connection.characteristics[name] = value
    else:
        method(connection, value)


def _get(name: str, method: Any, connection: Any) -> Any:
    if isinstance(connection, SandboxConnection):
        return connection.characteristic(name, None)
    return method(connection)


def _detect(method: Any, connection: Any) -> bool:
    if isinstance(connection, SandboxConnection):
        return connection.is_autocommit
    return bool(method(connection))


def _close_at_exit(keeper: Keeper) -> None:
    known = weakref.ref(keeper)

    def close() -> None:
        found = known()
        if found is not None and found.source.sandboxes.keeper is found:
            with suppress(Exception):  # whoever disposes of the database is told what fails
                found.close()

    atexit.register(close)
    weakref.finalize(keeper, atexit.unregister, close)
