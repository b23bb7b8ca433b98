"""The engines of one database, made on first use: its own, and one whose connections cannot write.

A server is told when connecting that nothing may be written there. To say so again for each
transaction would be a round trip, and a setting that could stay behind in the pool.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import URL, Engine, event
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from dbscope.engine import mysql, postgresql
from dbscope.engine.pool import ThreadQueuePool
from dbscope.engine.sqlite import files, recipe
from dbscope.engine.url import missing_driver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REFUSE_WRITES = dict.fromkeys(mysql.BACKENDS, mysql.refuse_writes) | {
    "sqlite": recipe.refuse_writes
}
POOL_TIMEOUT = 5.0  # seconds


class Engines:
    """The engines of one database.

    Args:
        url: with the driver that is to be used.
        is_async: which kind of engine.
        given: a ready engine, instead of making one.
        options: for `create_engine`, over our defaults.
        prepare: makes an engine ours, once for its life.
    """

    def __init__(
        self,
        url: URL,
        *,
        is_async: bool,
        given: Engine | AsyncEngine | None,
        options: Mapping[str, Any],
        prepare: Callable[[Engine], None],
    ) -> None:
        self.url = url
        self.is_async = is_async
        self.given = given
        self.options = options
        self.prepare = prepare
        self._main: Engine | AsyncEngine | None = None
        self._reader: Engine | None = None
        self._mutex = threading.Lock()

    @property
    def main(self) -> Engine | AsyncEngine:
        """Return the engine, which is made at the first call."""
        if self._main is None:
            with self._mutex:
                if self._main is None:
                    engine = self.given or self._create({})
                    self.prepare(plain(engine))
                    self._main = engine
        return self._main

    @property
    def reader(self) -> Engine | None:
        """Return the plain engine whose connections cannot write; None if there is only one kind.

        It has a pool of its own, of the same size.
        """
        if self._reader is None and self.has_reader:
            with self._mutex:
                if self._reader is None:
                    engine = plain(self._create(reader_arguments(self.url)))
                    self.prepare(engine)
                    if engine.dialect.name in REFUSE_WRITES:
                        event.listen(engine, "connect", REFUSE_WRITES[engine.dialect.name])
                    self._reader = engine
        return self._reader

    @property
    def has_reader(self) -> bool:
        """Tell whether a second engine can be made that sees the same data."""
        if self.given is not None:
            return False
        backend = self.url.get_backend_name()
        if backend == "sqlite":
            return not files.is_memory(self.url)
        return backend == "postgresql" or backend in mysql.BACKENDS

    @property
    def made(self) -> list[Engine]:
        """Return the plain engines that were made, by us or by who gave us one."""
        engines = (self._main or self.given, self._reader)
        return [plain(engine) for engine in engines if engine is not None]

    def dispose(self, *, close: bool) -> None:
        """Give up all connections.

        Args:
            close: False: somebody else has them, a parent process or another event loop.
        """
        for engine in self.made:
            engine.dispose(close=close)

    def forget(self) -> None:
        """Start anew in a forked child: the parent's sockets and locks are not ours to use."""
        self._mutex = threading.Lock()
        self.dispose(close=False)

    def _create(self, connect_args: Mapping[str, Any]) -> Engine | AsyncEngine:
        options = usual_options(self.url, is_async=self.is_async)
        arguments = options.get("connect_args", {}) | self.options.get("connect_args", {})
        options |= {**self.options, "connect_args": merged(arguments, connect_args)}
        # Found by name only now: tools put theirs in its place, perhaps after we were imported.
        module: Any = sqlalchemy_asyncio if self.is_async else sqlalchemy
        create = module.create_async_engine if self.is_async else module.create_engine
        try:
            return create(self.url, **options)
        except ImportError as error:
            raise missing_driver(self.url, error) from error


def plain(engine: Engine | AsyncEngine) -> Engine:
    """Return the plain engine, which for async is the one inside."""
    return engine.sync_engine if isinstance(engine, AsyncEngine) else engine


def usual_options(url: URL, *, is_async: bool) -> dict[str, Any]:
    """Return our options for `create_engine`."""
    options: dict[str, Any] = {"pool_timeout": POOL_TIMEOUT, "pool_reset_on_return": None}
    if not is_async:
        options["poolclass"] = ThreadQueuePool
    if url.get_backend_name() == "sqlite":
        options |= recipe.engine_options(url, is_async=is_async)
    elif is_async:
        options |= postgresql.engine_options(url.get_driver_name())
    return options


def reader_arguments(url: URL) -> dict[str, Any]:
    """Return what PostgreSQL is told with the login, so that nothing can be written there."""
    if url.get_backend_name() != "postgresql":
        return {}
    if url.get_driver_name() == "asyncpg":
        return {"server_settings": {postgresql.READ_ONLY: "on"}}
    given = url.query.get("options", "")
    return {"options": f"{given} -c {postgresql.READ_ONLY}=on".strip()}


def merged(arguments: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return both: settings are added, and words of options put after those that are there."""
    result = dict(arguments)
    for name, value in more.items():
        there = result.get(name)
        if isinstance(there, dict):
            result[name] = there | value
        else:
            result[name] = f"{there} {value}" if there else value
    return result
