"""Event loops: whose connections serve in any of them, and what becomes of those that do not.

A connection may wait for its socket in whichever loop runs, or have a thread of its own. Others
have a transport of the loop that they were made in: there they live, and when it is closed they can
only be forgotten, like the loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool
from sqlalchemy.util import await_only
from sqlalchemy.util.queue import AsyncAdaptedQueue, Empty

from dbscope.aio import threads
from dbscope.backends import registry
from dbscope.engine import disposal
from dbscope.errors import ConfigurationError, SynchronousOnlyOperation
from dbscope.unit import callsite
from dbscope.unit.serving import is_starting_or_ending

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Engine


class AnyLoopQueue(AsyncAdaptedQueue[Any]):
    """The queue of a pool for event loops in turn, or at once in several threads.

    asyncio's own waits in the loop in which it waited first, and in no other.
    """

    def __init__(self, maxsize: int = 0, use_lifo: bool = False) -> None:
        self.maxsize = maxsize
        self.use_lifo = use_lifo
        self._idle: deque[Any] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._mutex = threading.Lock()

    def qsize(self) -> int:
        """Return how many connections are idle."""
        return len(self._idle)

    def empty(self) -> bool:
        """Tell whether none is idle."""
        return not self._idle

    def full(self) -> bool:
        """Tell whether no more are kept."""
        return 0 < self.maxsize <= len(self._idle)

    def put_nowait(self, item: Any) -> None:
        """Put a connection there, and wake who waits longest."""
        with self._mutex:
            if self.full():
                super().put_nowait(item)
            self._idle.append(item)
            self._wake()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002
        """Put a connection there; nobody waits to be rid of one."""
        self.put_nowait(item)

    def get_nowait(self) -> Any:
        """Return an idle connection, or raise Empty."""
        with self._mutex:
            if not self._idle:
                raise Empty
            return self._idle.pop() if self.use_lifo else self._idle.popleft()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return an idle connection, or wait for one in the loop that runs."""
        if not block:
            return self.get_nowait()
        try:
            return await_only(asyncio.wait_for(self._next(), timeout))
        except TimeoutError as error:
            raise Empty from error

    async def _next(self) -> Any:
        while True:
            with suppress(Empty):
                return self.get_nowait()
            woken = asyncio.get_running_loop().create_future()
            with self._mutex:
                self._waiting.append(woken)
                if self._idle:
                    self._wake()
            try:
                await woken
            except asyncio.CancelledError:
                with self._mutex:  # somebody else may take what it was woken for
                    self._wake()
                raise

    def _wake(self) -> None:
        while self._waiting:
            woken = self._waiting.popleft()
            loop = woken.get_loop()
            with suppress(RuntimeError):  # that loop was closed meanwhile
                loop.call_soon_threadsafe(_set, woken)
                return


def _set(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


class AnyLoopPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool for async code, in any event loop."""

    _sqla_logger_namespace = "sqlalchemy.pool.AnyLoopPool"  # as its documents say
    _queue_class = AnyLoopQueue


class Made(Protocol):
    """What knows the engines of a database."""

    @property
    def made(self) -> list[Engine]:
        """Return those that were made."""
        ...


class Loops:
    """In which event loop the connections of one database live.

    Args:
        name: what messages call the database.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.loop: asyncio.AbstractEventLoop | None = None
        self._mutex = threading.Lock()

    def check(self, engines: Made) -> None:
        """Let the database be used in the loop that runs.

        Args:
            engines: those of the database.

        Raises:
            ConfigurationError: its connections are those of another loop, which is still there;
                or it is none of asyncio's.
        """
        loop = event_loop()
        if self.loop is loop:
            return
        with self._mutex:
            made = engines.made
            if self.loop not in (None, loop) and not all(map(serves_any, made)):
                self._leave(self.loop, made)
            self.loop = loop

    def _leave(self, loop: asyncio.AbstractEventLoop | None, engines: list[Engine]) -> None:
        if loop is not None and not loop.is_closed():
            raise ConfigurationError(
                f"{self.name} has connections of another event loop, which has not ended, and this "
                "driver cannot share them. Use one loop: `with TestClient(app) as client:` instead "
                "of `TestClient(app)`, one `asyncio.run` for all. Or end the first one by "
                "`await db.dispose()`, or keep no connections: "
                '`engine_options={"poolclass": NullPool}`.'
            )
        for engine in engines:
            forget(engine)

    def dispose(self, engines: Iterable[Engine]) -> None:
        """Close all connections; those of another loop that lives can only be forgotten."""
        loop, self.loop = self.loop, None
        for engine in engines:
            if loop is None or loop is asyncio.get_running_loop() or serves_any(engine):
                disposal.dispose(engine)
            elif loop.is_closed():
                forget(engine)
            else:
                engine.dispose(close=False)


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of asyncio that runs in this thread.

    Raises:
        ConfigurationError: there is none; trio, say, runs in its place.
    """
    loop = threads.running_loop()
    if loop is None:
        raise ConfigurationError(
            "What is asynchronous in dbscope, SQLAlchemy and its drivers runs on asyncio, and none "
            "of its event loops runs here. With anyio, choose its backend `asyncio`: trio is not "
            "served."
        )
    return loop


def check_blocking(name: str) -> None:
    """Let plain code wait in this thread, if nobody else does there.

    Raises:
        SynchronousOnlyOperation: an event loop runs in it, and somebody may be served there.
    """
    if threads.running_loop() is None or is_starting_or_ending():
        return
    raise SynchronousOnlyOperation(f"{name} was used on the event loop, at {callsite.of_call()}.")


def serves_any(engine: Engine) -> bool:
    """Tell whether the connections of an engine serve in any event loop."""
    pool: Any = engine.pool
    if isinstance(pool, NullPool):
        return True
    queue: Any = getattr(pool, "_pool", None)
    is_bound = registry.driver_of(engine.dialect).bound_to_loop
    return not is_bound and queue.__class__ is not AsyncAdaptedQueue


def forget(engine: Engine) -> None:
    """Begin anew without the connections of a loop that is closed; their sockets are closed."""
    idle, driver = list(_idle(engine.pool)), registry.driver_of(engine.dialect)
    engine.dispose(close=False)
    for record in idle:
        connection: Any = record.dbapi_connection
        if connection is not None:
            driver.hang_up(connection.driver_connection)


def _idle(pool: Any) -> Iterator[Any]:
    queue = getattr(pool, "_pool", None)
    while queue is not None and queue.qsize():
        with suppress(Empty):
            yield queue.get_nowait()
    if (single := getattr(pool, "_conn", None)) is not None:
        yield single
