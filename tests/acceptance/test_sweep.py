"""R2: a cancellation at every place where something is awaited, by SQLAlchemy's own sweep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import anyio
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncEngine

from dbscope import AsyncDatabase
from dbscope.aio.greenlets import Answer, Carrier
from tests.acceptance.application import Base, Row
from tests.acceptance.drivers import on_all
from tests.acceptance.storm import pass_on
from tests.asgi import call

cancellation = pytest.importorskip(
    "sqlalchemy.testing.cancellation", reason="the sweep came with SQLAlchemy 2.1"
)

numbers = count(1)
Scenario = Callable[[AsyncDatabase], Awaitable[None]]


class Databases:
    """Makes engines for the sweep, and knows the database that each belongs to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.known: WeakKeyDictionary[AsyncEngine, AsyncDatabase] = WeakKeyDictionary()

    def engine(self) -> AsyncEngine:
        """Be the factory of engines."""
        db = AsyncDatabase(self.url)
        self.known[db.engine] = db
        return db.engine

    def scenario(self, work: Scenario) -> Callable[[AsyncEngine], Awaitable[None]]:
        """Return the work, for an engine."""

        async def run(engine: AsyncEngine) -> None:
            await work(self.known[engine])

        return run


async def write(db: AsyncDatabase) -> None:
    """Insert a row and change it."""
    row = Row(id=next(numbers))
    db.session.add(row)
    await db.session.flush()
    row.n = 1


async def in_scope(db: AsyncDatabase) -> None:
    """Do it in a scope."""
    async with db.scope():
        await write(db)


async def in_atomic(db: AsyncDatabase) -> None:
    """Do it in a block outside any scope."""
    async with db.atomic():
        await write(db)


async def in_nested(db: AsyncDatabase) -> None:
    """Do it in nested blocks, of which one fails."""
    async with db.scope(), db.atomic():
        await write(db)
        async with db.atomic():
            await write(db)
        async with db.atomic():
            await write(db)
            raise db.Rollback
        await write(db)


async def in_stream(db: AsyncDatabase) -> None:
    """Do it in a request, and again while its body is streamed."""
    await call(application(db, FastAPI()), "POST", "/stream")


async def in_two_tasks(db: AsyncDatabase) -> None:
    """Do it in a request whose endpoint runs in a child task."""
    app = FastAPI()
    app.middleware("http")(pass_on)
    await call(application(db, app), "POST", "/plain")


def application(db: AsyncDatabase, app: FastAPI) -> FastAPI:
    """Return the application with its routes."""

    @app.post("/plain")
    async def plain() -> None:
        await write(db)

    @app.post("/stream")
    async def stream() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield "first"
            await write(db)
            yield "second"

        await write(db)
        return StreamingResponse(body())

    db.install(app)
    return app


SHORT = [in_scope, in_two_tasks]
LONG = [in_atomic, in_nested, in_stream]
SCENARIOS = [*SHORT, *[pytest.param(work, marks=pytest.mark.long) for work in LONG]]
by_scenario = pytest.mark.parametrize("work", SCENARIOS, ids=lambda work: work.__name__)


class ByScope(cancellation.AwaitPoints):
    """Cancels by an anyio scope, which cancels again at every await until the work ends."""

    def create_task(self, coro: Any) -> asyncio.Task[Any]:
        """Run it in a task with a scope of its own."""

        async def scoped() -> Any:
            with anyio.CancelScope() as self.scope:
                return await coro
            raise asyncio.CancelledError  # what the sweep expects of a cancelled task

        self._task = asyncio.create_task(scoped())
        return self._task

    def __call__(self, awaitable: Any) -> None:
        """Count an await, and cancel there."""
        self._count += 1
        if self._count in self._cancel_at:
            self._cancelled_at.append(getattr(awaitable, "__qualname__", repr(awaitable)))
            self.scope.cancel()


real_await_points = cancellation.await_points


@contextmanager
def await_points(cancel_at: tuple[int, ...] = ()) -> Iterator[Any]:
    """Count what is awaited for our greenlets too, which are not of SQLAlchemy's class."""
    with real_await_points(cancel_at) as points:

        def counted(switch: Callable[..., Any]) -> Callable[..., Any]:
            def switch_and_count(carrier: Carrier, *args: Any) -> Any:
                answer = switch(carrier, *args)
                is_over = carrier.dead or type(answer) is Answer
                return answer if is_over else cancellation._InstrumentedAwaitable(answer, points)

            return switch_and_count

        with (
            mock.patch.object(Carrier, "switch", counted(Carrier.switch)),
            mock.patch.object(Carrier, "throw", counted(Carrier.throw)),
        ):
            yield points


async def swept(
    url: str, work: Scenario, warmth: tuple[bool, ...] = (False, True), *, cancels: int = 1
) -> tuple[list[str], int]:
    """Sweep, with a pool that is cold and one that is warm; return the failures and the points."""
    databases, points = Databases(url), 0
    db = AsyncDatabase(url)
    await db.ensure_schema(Base.metadata)
    await db.dispose()
    failures: list[str] = []
    run_scenario = cancellation.run_scenario

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal points
        points += 1
        return await run_scenario(*args, **kwargs)

    with (
        mock.patch.object(cancellation, "run_scenario", counted),
        mock.patch.object(cancellation, "await_points", await_points),
    ):
        for warm in warmth:
            scenario = databases.scenario(work)
            failures += await cancellation.sweep(
                databases.engine, scenario, warm=warm, cancels=cancels
            )
    is_silent = url.startswith("sqlite+inline") and all(warmth)  # it waits only to connect
    assert points > len(warmth) or is_silent, "no await was seen"
    return failures, points


@on_all
@by_scenario
@pytest.mark.timeout(120)
def test_a_cancellation_at_every_await_costs_nothing(url, work, times, figures):
    """R2: `task.cancel()` at each point: no connection lost, the pool still works."""
    failures, points = asyncio.run(swept(url, work, times((True,), (False, True))))
    assert failures == []
    figures(f"R2 {points} runs, cancelled once: 0 failures")


@on_all
@by_scenario
@pytest.mark.timeout(120)
def test_a_scope_that_cancels_again_and_again_costs_nothing(url, work, times, figures):
    """R2: the same by an anyio cancel scope, whose cancellation is repeated until the end."""
    with mock.patch.object(cancellation, "AwaitPoints", ByScope):
        failures, points = asyncio.run(swept(url, work, times((True,), (False, True))))
    assert failures == []
    figures(f"R2 {points} runs, cancelled by a scope: 0 failures")


@pytest.mark.long
@on_all
@by_scenario
@pytest.mark.timeout(600)
def test_a_second_cancellation_of_the_cleanup_costs_nothing(url, work, figures):
    """R2: two cancellations, the second one at each point of the clean-up."""
    failures, points = asyncio.run(swept(url, work, cancels=2))
    assert failures == []
    figures(f"R2 {points} runs, cancelled twice: 0 failures")
