"""The pools: which one a database has, how many connections it may have, and how many are out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.pool import (
    AssertionPool,
    AsyncAdaptedQueuePool,
    NullPool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
)
from sqlalchemy.util.queue import Empty, Queue

from dbscope.aio import stopped, threads
from dbscope.backends import registry
from dbscope.engine.loops import AnyLoopPool
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine, Pool
    from sqlalchemy.pool import ConnectionPoolEntry

    from dbscope.backends.base import Backend

# Of these there is one connection at a time: for all, or for each thread.
SINGLE = (AssertionPool, SingletonThreadPool, StaticPool)


class ThreadQueue(Queue[Any]):
    """SQLAlchemy's queue, in which nobody waits for what will never be given back."""

    def _empty(self) -> bool:
        is_empty = super()._empty()
        if is_empty and stopped.is_left():
            raise Empty
        return is_empty

    def wake(self) -> None:
        """Let all who wait look again."""
        with self.mutex:
            self.not_empty.notify_all()


class ThreadQueuePool(QueuePool):
    """SQLAlchemy's queue pool, whose waiting threads do not count as busy ones."""

    _sqla_logger_namespace = "sqlalchemy.pool.ThreadQueuePool"  # as its documents say
    _queue_class = ThreadQueue

    def _do_get(self) -> ConnectionPoolEntry:
        if self.checkedin() or self.overflow() < self._max_overflow:
            return super()._do_get()
        queue: Any = self._pool
        with threads.uncounted(), stopped.woken_by(queue.wake):
            return super()._do_get()


def class_for(
    options: Mapping[str, Any], backend: Backend, dialect: Any, *, is_async: bool
) -> type[Pool]:
    """Return the class of the pool for these options of an engine.

    Raises:
        ConfigurationError: a class that cannot serve.
    """
    asked: Any = options.get("poolclass")
    if asked is None or asked is StaticPool:
        # One connection for all would be one transaction for all: they take it in turn instead.
        asked = dialect.get_pool_class(backend.url) if is_async else QueuePool
    if asked is QueuePool and not is_async:
        return ThreadQueuePool
    _check(asked, is_async=is_async)
    if asked is AsyncAdaptedQueuePool and not registry.driver_of(dialect).bound_to_loop:
        return AnyLoopPool
    if asked is NullPool and backend.is_memory:
        raise ConfigurationError(
            "engine_options: poolclass=NullPool would lose a database in memory at the end of each "
            "scope."
        )
    return asked  # type: ignore[no-any-return]


def _check(asked: Any, *, is_async: bool) -> None:
    wrong = None
    if not (isinstance(asked, type) and hasattr(asked, "recreate")):
        wrong = "must be a class of pools"
    elif issubclass(asked, SingletonThreadPool):
        wrong = "would give a scope inside another the same connection, and so the same transaction"
    elif issubclass(asked, QueuePool) and is_async is not issubclass(asked, AsyncAdaptedQueuePool):
        kind, other = ("async", AsyncAdaptedQueuePool) if is_async else ("plain", QueuePool)
        wrong = f"cannot serve {kind} code; use {other.__name__}"
    if wrong:
        name = getattr(asked, "__name__", repr(asked))
        raise ConfigurationError(f"engine_options: poolclass={name} {wrong}.")


def capacity(engine: Engine) -> int | None:
    """Return how many connections the pool may have; None: as many as are asked for."""
    pool: Any = engine.pool
    if isinstance(pool, SINGLE):
        return 1
    overflow = getattr(pool, "_max_overflow", -1)
    return None if overflow < 0 else pool.size() + overflow


def size(engine: Engine) -> int:
    """Return how many connections the pool keeps."""
    pool: Any = engine.pool
    if isinstance(engine.pool, SINGLE):
        return 1
    return int(pool.size()) if hasattr(pool, "size") else 0


def idle(engine: Engine) -> int:
    """Return how many connections the pool has that nobody uses."""
    pool: Any = engine.pool
    return int(pool.checkedin()) if hasattr(pool, "checkedin") else 0


class Out:
    """How many connections are out, of pools that do not count them themselves."""

    def __init__(self) -> None:
        self._records: WeakSet[ConnectionPoolEntry] = WeakSet()

    def watch(self, engine: Engine) -> None:
        """Listen to an engine, for its own pool and for that of one that hears the same."""
        if not hasattr(engine.pool, "checkedout"):
            event.listen(engine, "connect", self._on_connect)

    def _on_connect(self, connection: Any, record: ConnectionPoolEntry) -> None:  # noqa: ARG002
        self._records.add(record)

    def count(self, engines: list[Engine]) -> int:
        """Return how many of these engines are out now."""
        pools: list[Any] = [engine.pool for engine in engines]
        counted = sum(int(pool.checkedout()) for pool in pools if hasattr(pool, "checkedout"))
        return counted + sum(record.in_use for record in list(self._records))
