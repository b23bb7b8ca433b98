"""The engines of one database, made on first use: its own, and one whose connections cannot write.

A server is told once, when it has let us in, that nothing may be written there. To say so again for
each transaction would be a round trip, and a setting that could stay behind in the pool.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import URL, Connection, Dialect, Engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import StaticPool

from dbscope.engine import disposal, given
from dbscope.engine import pool as pools
from dbscope.engine.options import TRANSLATED, keywords
from dbscope.engine.reader import ReaderEngine
from dbscope.errors import ConfigurationError
from dbscope.extras import needed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Pool
    from sqlalchemy.engine.interfaces import Dialect

    from dbscope.backends.base import Backend


POOL_TIMEOUT = 5.0  # seconds
OF_QUEUE = frozenset({"pool_timeout", "pool_size", "max_overflow"})


class Engines:
    """The engines of one database.

    Args:
        url: with the driver that is to be used.
        backend: that of the database.
        is_async: which kind of engine.
        given: a ready engine, instead of making one.
        options: for `create_engine`, over our defaults.
        prepare: makes an engine ours, once for its life.
    """

    def __init__(
        self,
        url: URL,
        *,
        backend: Backend,
        is_async: bool,
        given: Engine | AsyncEngine | None,
        options: Mapping[str, Any],
        prepare: Callable[[Engine], None],
    ) -> None:
        self.url = url
        self.backend = backend
        self.is_async = is_async
        self.given = given
        self.options = options
        self.prepare = prepare
        self._main: Engine | AsyncEngine | None = None
        self.plain: Engine | None = None  # the main one, or for async the one inside, if made
        self._reader: Engine | None = None
        self._routed: dict[Dialect, Engine] = {}
        self._mutex = threading.Lock()

    @property
    def main(self) -> Engine | AsyncEngine:
        """Return the engine, which is made at the first call."""
        if self._main is None:
            with self._mutex:
                if self._main is None:
                    engine = self.given or self._create()
                    self.prepare(plain(engine))
                    self.plain = plain(engine)
                    self._main = engine
        return self._main

    @property
    def reader(self) -> Engine | None:
        """Return the plain engine whose connections cannot write; None if there is only one kind.

        It has a pool of its own, of the same size.
        """
        if self._reader is None and self.has_reader:
            main = plain(self.main)
            with self._mutex:
                if self._reader is None:
                    spare = plain(self._create(_initialize=False))
                    self._reader = ReaderEngine(main, spare, self._refuse_writes)
        return self._reader

    @property
    def has_reader(self) -> bool:
        """Tell whether a second engine can be made that sees the same data."""
        return self.given is None and self.backend.has_reader

    def require(self, bind: Engine | Connection, scope: object) -> None:
        """Make an engine that a session routes to one of ours, the first time that it is seen.

        Raises:
            ConfigurationError: it is one of another kind of database.
        """
        if bind is self.plain or bind is self._reader:
            return
        main, engine = plain(self.main), bind.engine
        if engine in (main, self._reader) or engine.dialect in self._routed:
            return
        if engine.dialect.name != main.dialect.name:
            raise ConfigurationError(
                f"{scope} was routed to {engine!r}, and this database is one of "
                f"{main.dialect.name}; another kind of database needs an object of its own."
            )
        with self._mutex:
            if engine.dialect not in (main.dialect, *self._routed):
                self.prepare(engine)
            self._routed[engine.dialect] = engine

    @property
    def made(self) -> list[Engine]:
        """Return the plain engines that were made, by us or by who gave us one."""
        engines = (self._main or self.given, self._reader, *self._routed.values())
        made = [plain(engine) for engine in engines if engine is not None]
        return list({engine.pool: engine for engine in made}.values())

    def dispose(self) -> None:
        """Close all connections."""
        for engine in self.made:
            disposal.dispose(engine)

    def forget(self) -> None:
        """Start anew in a forked child: the parent's sockets and locks are not ours to use."""
        self._mutex = threading.Lock()
        for engine in self.made:
            engine.dispose(close=False)

    def _refuse_writes(self, connection: Any) -> None:
        self.backend.refuse_writes(connection, plain(self.main).dialect)

    def _create(self, **more: Any) -> Engine | AsyncEngine:
        # Found by name only now: tools put theirs in its place, perhaps after we were imported.
        module: Any = sqlalchemy_asyncio if self.is_async else sqlalchemy
        create = module.create_async_engine if self.is_async else module.create_engine
        driver = self.url.get_driver_name()
        try:
            with needed(driver, f"The driver {driver!r}"):
                engine: Engine | AsyncEngine = create(self.url, **self._arguments(), **more)
            given.check_levels(plain(engine).dialect, self.options)
        except (ArgumentError, TypeError, ValueError, LookupError, AttributeError) as error:
            told = repr(error) if isinstance(error, LookupError) else error
            perhaps = given.among(self.options, self.url)
            raise ConfigurationError(f"The engine cannot be made: {told}{perhaps}.") from error
        return engine

    def _arguments(self) -> dict[str, Any]:
        usual = usual_options(self.backend, is_async=self.is_async)
        connect = usual.pop("connect_args", {}) | dict(self.options.get("connect_args") or {})
        connect = self.backend.connect_args(connect)
        own = dict(self.options)
        if own.get("poolclass") is StaticPool:  # see `pools.class_for`
            own |= {"poolclass": None, "pool_size": 1, "max_overflow": 0}
        own["poolclass"] = own.get("poolclass") or usual.pop("poolclass", None)
        own["poolclass"] = pools.class_for(own, self.backend, self._dialect, is_async=self.is_async)
        for name in OF_QUEUE - takes(own["poolclass"]):
            usual.pop(name, None)
        return usual | own | {"connect_args": connect}

    @property
    def _dialect(self) -> type[Dialect]:
        dialect: type[Dialect] = self.url.get_dialect()
        return dialect.get_async_dialect_cls(self.url) if self.is_async else dialect


def plain(engine: Engine | AsyncEngine) -> Engine:
    """Return the plain engine, which for async is the one inside."""
    return engine.sync_engine if isinstance(engine, AsyncEngine) else engine


def takes(poolclass: type[Pool]) -> set[str]:
    """Return which options of a queue a class of pools takes."""
    return {TRANSLATED.get(name, name) for name in keywords(poolclass)}


def usual_options(backend: Backend, *, is_async: bool) -> dict[str, Any]:
    """Return our options for `create_engine`."""
    options: dict[str, Any] = {"pool_timeout": POOL_TIMEOUT, "pool_reset_on_return": None}
    return options | backend.engine_options(is_async=is_async)
