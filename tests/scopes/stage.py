"""An application on a database, with an independent look at it while its answer leaves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.util import greenlet_spawn
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from dbscope.unit.current import current
from tests.asgi import Answer, ask, http_scope
from tests.worlds import (
    DRIVERS,
    SYNC,
    Both,
    Child,
    Item,
    World,
    is_postgresql,
    is_sqlite,
    make_world,
    plain_engine,
    record_statements,
)

ALONE, OUTSIDE, INSIDE = "alone", "outside", "inside"
AROUND = (ALONE, OUTSIDE, INSIDE)  # where a user's @app.middleware("http") is, seen from ours


class Trouble(Exception):
    """Something that an application raises."""


@dataclass
class Seen:
    """One request: its answer, and what another client saw when `http.response.start` left."""

    answer: Answer
    items: list[str] | None = None
    checked_out: int | None = None
    lock_is_free: bool | None = None

    @property
    def status(self) -> int | None:
        """The status of the answer."""
        return self.answer.status


@dataclass
class Stage:
    """The application, its database and its middlewares; made anew for each test."""

    world: World
    around: str = ALONE
    app: FastAPI = field(default_factory=FastAPI)
    install: dict[str, Any] = field(default_factory=dict)
    is_wired: bool = False

    @property
    def db(self) -> Both:
        """The database, for bodies that are told once for sync and async."""
        return Both(self.world.database)

    @property
    def real(self) -> Any:
        """The database as it is."""
        return self.world.database

    def route(
        self, body: Callable[[], Any], path: str = "/", method: str = "POST", **kw: Any
    ) -> Any:
        """Make the body an endpoint: `def` for a sync database, `async def` for an async one."""
        if self.world.is_async:

            async def carried() -> Any:
                return await greenlet_spawn(body)

            endpoint: Any = carried
        else:

            def called() -> Any:  # a function of its own, since a route may leave a mark on it
                return body()

            endpoint = called
        self.app.add_api_route(path, endpoint, methods=[method], **kw)
        return endpoint

    def task(self, body: Callable[[], Any]) -> Callable[[], Any]:
        """Make the body a background task, or a hook, of the database's kind."""
        if not self.world.is_async:
            return body

        async def task() -> None:
            await greenlet_spawn(body)

        return task

    def stream(self, chunks: Callable[[], Iterator[str]]) -> Any:
        """Make the generator one of the database's kind."""
        if not self.world.is_async:
            return chunks()

        async def stream() -> AsyncIterator[str]:
            iterator = chunks()
            while (chunk := await greenlet_spawn(lambda: next(iterator, None))) is not None:
                yield chunk

        return stream()

    def insert(self, name: str) -> None:
        """Store an item, at once; part of a body."""
        self.db.session.add(Item(name=name))
        self.db.session.flush()

    def insert_orphan(self) -> None:
        """Store a child without parent, which fails at COMMIT; part of a body."""
        self.db.session.add(Child(item_id=999))
        self.db.session.flush()

    def wire(self) -> None:
        """Install the database, and the user's middleware outside or inside of it; once."""
        if self.is_wired:
            return
        self.is_wired = True
        if self.around == INSIDE:
            add_middleware(self.app)
        self.world.database.install(self.app, **self.install)
        if self.around == OUTSIDE:
            add_middleware(self.app)

    async def ask(self, method: str = "POST", path: str = "/", **request: Any) -> Seen:
        """Send a request, and look with another connection when the response starts."""
        self.wire()
        seen = Seen(Answer())

        def look() -> None:
            seen.items = self.world.items()
            seen.checked_out = self.real.stats()["pool_checked_out"]
            seen.lock_is_free = not self.world.is_sqlite or self.world.look.write_lock_is_free()

        async def on_send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                await anyio.to_thread.run_sync(look)

        seen.answer = await ask(self.app, method, path, on_send=on_send, **request)
        return seen

    async def ask_and_leave(self, how: str) -> None:
        """Send a request, and go when the body begins: by saying so, or with a "broken-pipe"."""
        left = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if not message.get("body"):
                return
            left.set()
            if how == "broken-pipe":
                raise OSError("the client has gone")
            await asyncio.sleep(0)

        self.wire()
        with anyio.fail_after(40), suppress(OSError):
            await self.app(http_scope("POST", "/"), receive, send)

    def remake(self, url: str = "", **options: Any) -> None:
        """Use another database object with these options; nothing was opened by the first."""
        self.world.database = type(self.real)(url or self.world.url, **options)
        record_statements(self.world)

    def clients(self) -> set[int]:
        """Return who is connected to the database, by numbers of the server."""
        return {each.pid for each in self.world.look.backends()}

    def busy(self) -> set[int]:
        """Return who sleeps, or waits for a lock by name, in a statement; by the same numbers."""
        sql = BUSY[self.world.look.url.get_backend_name()]
        return {number for (number,) in self.world.look.rows(sql)}

    def endless(self, seconds: float = 20) -> tuple[str, Callable[[], bool]]:
        """Return a statement that nobody waits for to end, and what tells that it has begun."""
        if self.world.is_sqlite:
            return ENDLESS, begun_in_a_thread(plain_engine(self.real))
        before = self.busy()
        return self.world.sleep(seconds), lambda: bool(self.busy() - before)

    async def warm_up(self) -> None:
        """Let the pool have a connection, by a request that reads."""
        self.route(lambda: self.db.scalar(text("SELECT 1")), "/warm-up", "GET")
        assert (await self.ask("GET", "/warm-up")).status == 200

    async def check_clean(self) -> None:
        """Fail if anything was left behind, before the connections are closed."""
        assert current.get() is None
        await eventually(self._is_clean)

    def _is_clean(self) -> bool:
        for database in databases(self.real):
            if database.stats()["pool_checked_out"]:
                return False
        if self.world.is_sqlite:
            return self.world.look.write_lock_is_free()
        return not self.world.look.idle_in_transaction(patience=1)

    @asynccontextmanager
    async def used(self) -> AsyncIterator[Stage]:
        """Be there for one test; look that it leaves nothing behind."""
        try:
            yield self
            await self.check_clean()
        finally:
            await close(self.world.database)
            self.world.look.close()


# Not by what is active: a server may say so of who waits for the rest of a request.
BUSY = {
    "postgresql": (
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event IN ('PgSleep', 'advisory')"
    ),
    "mysql": (
        "SELECT id FROM information_schema.processlist"
        " WHERE db = database() AND state IN ('User sleep', 'User lock')"
    ),
}
ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT begun() UNION ALL SELECT i + 1 FROM n LIMIT 2000000000)"
    " SELECT max(i) FROM n"
)


def begun_in_a_thread(engine: Any) -> Callable[[], bool]:
    """Give new connections of SQLite `begun()`; tell whether it was called outside of the loop."""
    loop, called = threading.get_ident(), threading.Event()

    def begun() -> int:
        if threading.get_ident() != loop:
            called.set()
        return 1

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        connection.create_function("begun", 0, begun)

    return called.is_set


def make_stage(driver: str, around: str, url: str) -> Stage:
    """Return a stage on a database that is there."""
    return Stage(make_world(driver, "request", url), around)


async def close(database: Any) -> None:
    """Dispose of a database of any kind, with its companion."""
    async with database.lifespan():
        pass


def databases(database: Any) -> list[Any]:
    """Return the database and its companion, if there is one."""
    companions = (vars(database).get(name) for name in ("sync", "async_"))
    return [database, *(each for each in companions if each is not None)]


def add_middleware(app: FastAPI) -> None:
    """Add a user's middleware: it does nothing, and runs the rest in a child task."""

    @app.middleware("http")
    async def users_own(request: Any, call_next: Any) -> Any:
        return await call_next(request)


def handle(
    app: FastAPI,
    error: type[Exception],
    status: int,
    *,
    plain: bool = False,
    kept_by: Any = None,
    **kw: Any,
) -> None:
    """Let the application answer an error with this status, and keep its work if that is said."""

    def response(error: Exception) -> Any:
        answer = JSONResponse({"handled": type(error).__name__}, status, **kw)
        return answer if kept_by is None else kept_by.keep(answer)

    if plain:

        @app.exception_handler(error)
        def handler(request: Any, error: Exception) -> Any:
            return response(error)
    else:

        @app.exception_handler(error)
        async def async_handler(request: Any, error: Exception) -> Any:
            return response(error)


def handle_conflict(app: FastAPI, *, plain: bool = False) -> None:
    """Let the application answer an `IntegrityError` with 409, as applications do."""
    handle(app, IntegrityError, 409, plain=plain)


async def eventually(is_so: Callable[[], bool], patience: float = 20) -> None:
    """Wait until it is so: what was cancelled may need a moment to be gone."""
    deadline = time.monotonic() + patience
    while not await anyio.to_thread.run_sync(is_so):
        assert time.monotonic() < deadline, f"not in {patience} s: {is_so}"
        await asyncio.sleep(0.01)


def work(stage: Stage, function: Callable[[], Any]) -> Awaitable[Any]:
    """Run a function that uses the database, from async code."""
    return greenlet_spawn(function) if stage.world.is_async else run_in_threadpool(function)


def only(*drivers: str, places: tuple[str, ...] = (ALONE,)) -> pytest.MarkDecorator:
    """Mark a test of `stage`: where it runs; without drivers in all of them."""
    return pytest.mark.worlds(drivers=lambda each: not drivers or each in drivers, places=places)


ASYNC = tuple(each for each in DRIVERS if each not in SYNC)
POSTGRES = tuple(each for each in DRIVERS if is_postgresql(each))
SERVERS = tuple(each for each in DRIVERS if not is_sqlite(each))
ASYNC_SERVERS = tuple(each for each in SERVERS if each not in SYNC)


@dataclass
class Cancelling:
    """Runs some work, and cancels it in one of the two ways; it must end as cancelled."""

    how: str

    async def run(self, work: Coroutine[Any, Any, Any], when: Callable[[], Awaitable[Any]]) -> None:
        """Cancel the work when that was waited for."""
        if self.how == "task.cancel":
            task = asyncio.create_task(work)
            await when()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 40)
            return
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()
            group.start_soon(self._run_in, scope, work)
            await when()
            scope.cancel()
        assert scope.cancelled_caught

    async def _run_in(self, scope: anyio.CancelScope, work: Coroutine[Any, Any, Any]) -> None:
        with scope:
            await work


HOW = [pytest.param(Cancelling(how), id=how) for how in ("task.cancel", "anyio-scope")]


async def a_moment_after(event: asyncio.Event) -> None:
    """Wait for the event, and until what follows it is under way."""
    await event.wait()
    await asyncio.sleep(0.05)


@contextmanager
def swallowed(kind: type[Exception]) -> Iterator[None]:
    """Swallow an error, which must come."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind} was expected")
