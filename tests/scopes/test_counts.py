"""What each kind of request costs, as exact numbers: a change that costs more fails here.

Seen from outside: the statements by SQLite's own trace or by a proxy on the wire, the check-outs
by the pool. All are those of the second request, when connections and caches are warm.
"""

import asyncio
import gc
import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio.to_thread
import greenlet
import pytest
import sqlalchemy
from fastapi import HTTPException
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import async_sessionmaker

from tests.asgi import ask
from tests.scopes.stage import ASYNC, Stage, only
from tests.support.proxy import Proxy
from tests.worlds import needs_round_trips, plain_engine, recorder, waiting

pytestmark = pytest.mark.anyio


# -- the kinds of request, as an `async def` and as a `def` endpoint has them ----------------------


class Awaited:
    """What `async def` endpoints do."""

    def __init__(self, db: Any) -> None:
        self.db = db

    async def unused(self) -> None:
        pass

    async def taken(self) -> None:
        assert self.db.session is not None

    async def read(self) -> None:
        await self.db.execute(text("SELECT 7"))

    async def write(self) -> None:
        await self.db.execute(INSERT, {"name": new_name()})

    async def nested(self) -> None:
        await self.write()
        async with self.db.atomic():
            await self.write()

    async def nested_first(self) -> None:
        async with self.db.atomic():
            await self.write()
        async with self.db.atomic():
            pass

    async def failing(self) -> None:
        await self.write()
        raise HTTPException(409)

    async def hooked(self) -> None:
        await self.write()
        self.db.on_commit(lambda: None)


class Plain:
    """What `def` endpoints do."""

    def __init__(self, db: Any) -> None:
        self.db = db

    def unused(self) -> None:
        pass

    def taken(self) -> None:
        assert self.db.session is not None

    def read(self) -> None:
        self.db.execute(text("SELECT 7"))

    def write(self) -> None:
        self.db.execute(INSERT, {"name": new_name()})

    def nested(self) -> None:
        self.write()
        with self.db.atomic():
            self.write()

    def nested_first(self) -> None:
        with self.db.atomic():
            self.write()
        with self.db.atomic():
            pass

    def failing(self) -> None:
        self.write()
        raise HTTPException(409)

    def hooked(self) -> None:
        self.write()
        self.db.on_commit(lambda: None)


INSERT = text("INSERT INTO item (name) VALUES (:name)")
KINDS = ["unused", "taken", "read", "write", "nested", "nested_first", "failing", "hooked"]
_numbers = itertools.count()


def new_name() -> str:
    """Return a name that no item has."""
    return f"item {next(_numbers)}"


@dataclass
class Cost:
    """What a request cost."""

    statements: list[str] = field(default_factory=list)
    round_trips: int = 0
    checkouts: int = 0
    switches: int = 0
    tasks: int = 0
    threads: int = 0


async def cost_of(stage: Stage, kind: str, proxy: Proxy | None = None, kinds: Any = None) -> Cost:
    """Return what the second request of this kind costs."""
    cost = Cost()
    method = "GET" if kind in ("unused", "taken", "read") else "POST"
    if kinds is None:
        kinds = (Awaited if stage.world.is_async else Plain)(stage.real)
    stage.app.add_api_route("/", getattr(kinds, kind), methods=[method])
    stage.wire()
    engine = plain_engine(stage.real)
    if proxy is None:
        event.listen(engine, "connect", lambda each, record: trace(each, recorder(cost.statements)))
    await ask(stage.app, method, "/")
    cost.statements.clear()
    if proxy is not None:
        proxy.reset_counts()
    taken = partial(count, cost)
    event.listen(engine, "checkout", taken)
    with counted(cost):
        await ask(stage.app, method, "/")
    event.remove(engine, "checkout", taken)
    if proxy is not None:
        cost.statements, cost.round_trips = list(proxy.sql), proxy.round_trips
    cost.statements = [WORD.match(sql)[0].upper() for sql in cost.statements]  # type: ignore[index]
    return cost


def count(cost: Cost, *args: Any) -> None:
    """Count a check-out of the pool."""
    cost.checkouts += 1


WORD = re.compile(r"BEGIN IMMEDIATE|ROLLBACK TO|\w+", re.IGNORECASE)


def trace(connection: Any, note: Callable[[str], None]) -> None:
    """Let SQLite tell what it is sent."""
    driver = getattr(connection, "driver_connection", connection)
    waiting(driver.set_trace_callback)(note)


@contextmanager
def counted(cost: Cost) -> Iterator[None]:
    """Count what happens in this thread: switches of greenlets, new tasks, hops to threads."""
    loop = asyncio.get_running_loop()
    run_sync = anyio.to_thread.run_sync
    run_in_executor = loop.run_in_executor

    def on_switch(what: str, args: Any) -> None:
        cost.switches += 1

    def make_task(loop: Any, work: Any, **kwargs: Any) -> Any:
        cost.tasks += 1
        return asyncio.Task(work, loop=loop, **kwargs)

    async def hop(*args: Any, **kwargs: Any) -> Any:
        cost.threads += 1
        return await run_sync(*args, **kwargs)

    def hop_to_ours(*args: Any) -> Any:
        cost.threads += 1
        return run_in_executor(*args)

    gc.disable()  # a greenlet that is collected is switched to
    before = greenlet.settrace(on_switch)
    loop.set_task_factory(make_task)
    anyio.to_thread.run_sync = hop
    loop.run_in_executor = hop_to_ours
    try:
        yield
    finally:
        anyio.to_thread.run_sync = run_sync
        del loop.run_in_executor
        loop.set_task_factory(None)
        greenlet.settrace(before)
        gc.enable()


# -- the numbers -----------------------------------------------------------------------------------

# B: BEGIN (IMMEDIATE where SQLite will write), S: SELECT, I: INSERT, SP and RL: SAVEPOINT and its
# RELEASE, C: COMMIT, R: ROLLBACK.
STATEMENTS = {
    "unused": "",
    "taken": "",
    "read": "B S C",
    "write": "BI I C",
    "nested": "BI I SP I RL C",
    "nested_first": "BI I C",
    "failing": "BI I R",
    "hooked": "BI I C",
}
SHORT = {
    "BEGIN": "B",
    "BEGIN IMMEDIATE": "BI",
    "SELECT": "S",
    "INSERT": "I",
    "SAVEPOINT": "SP",
    "RELEASE": "RL",
    "COMMIT": "C",
    "ROLLBACK": "R",
}
# Of greenlets, with SQLAlchemy 2.1: what an async request pays for one story of sync and async.
SWITCHES = {
    "inline": {
        "read": 4,
        "write": 4,
        "nested": 8,
        "nested_first": 6,
        "failing": 4,
        "hooked": 4,
    },
    "aiosqlite": {
        "read": 12,
        "write": 14,
        "nested": 36,
        "nested_first": 16,
        "failing": 14,
        "hooked": 14,
    },
    "psycopg async": {
        "read": 10,
        "write": 10,
        "nested": 26,
        "nested_first": 12,
        "failing": 10,
        "hooked": 10,
    },
    "asyncpg": {
        "read": 8,
        "write": 8,
        "nested": 18,
        "nested_first": 10,
        "failing": 8,
        "hooked": 8,
    },
}
IS_21 = sqlalchemy.__version__.startswith("2.1.")


@pytest.fixture(autouse=True)
def fast_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow one, statements of SQLite leave the event loop to others now and then."""
    monkeypatch.setattr("dbscope.sqlite_inline.fairness.SLICE", 60)


@pytest.fixture
def wire(stage: Stage, request: pytest.FixtureRequest) -> Proxy | None:
    """Return a proxy between the application and PostgreSQL; None for SQLite."""
    if stage.world.is_sqlite:
        return None
    proxy: Proxy = request.getfixturevalue("proxy")
    stage.remake(proxy.through(stage.world.url))
    return proxy


@needs_round_trips
@only()
@pytest.mark.parametrize("kind", KINDS)
async def test_the_cost_of_a_request(stage: Stage, wire: Proxy | None, kind: str) -> None:
    """Promise 4: nothing is paid for what is not used, and no statement is one too many."""
    cost = await cost_of(stage, kind, wire)
    expected = STATEMENTS[kind]
    if not stage.world.is_sqlite:
        expected = expected.replace("BI", "B")
    is_used = bool(expected)
    assert " ".join(SHORT[each] for each in cost.statements) == expected
    assert cost.checkouts == (1 if is_used else 0)
    if wire is not None:
        assert cost.round_trips == len(cost.statements)
    # COMMIT is carried by the request's own task, until that is cancelled; hooks, and ROLLBACK,
    # which has a time limit, by a task of their own; the end of a plain session by a thread.
    needs_task = is_used and (not stage.world.is_async or kind in ("failing", "hooked"))
    assert cost.tasks == (1 if needs_task else 0)
    assert cost.threads == (0 if stage.world.is_async else 2 if is_used else 1)
    if IS_21 or not is_used:
        assert cost.switches == SWITCHES.get(stage.world.driver, {}).get(kind, 0)


@needs_round_trips
@only(*ASYNC)
@pytest.mark.parametrize("kind", ["read", "write", "nested", "failing"])
async def test_it_costs_no_more_than_by_hand(stage: Stage, wire: Proxy | None, kind: str) -> None:
    """Design 1: against the same statements in a session and transaction opened in the endpoint."""
    ours = await cost_of(stage, kind, wire)
    await stage.real.dispose()
    other = Stage(stage.world, is_wired=True)  # without the middleware
    make = async_sessionmaker(stage.real.engine, expire_on_commit=False)
    theirs = await cost_of(other, kind, wire, kinds=ByHand(make))
    assert [each.split()[0] for each in ours.statements] == [
        each.split()[0] for each in theirs.statements
    ]
    assert (ours.checkouts, ours.round_trips) == (theirs.checkouts, theirs.round_trips)
    assert ours.switches <= theirs.switches


class ByHand(Awaited):
    """What people write without a library."""

    def __init__(self, make: Any) -> None:
        self.make = make

    async def read(self) -> None:
        async with self.make() as session, session.begin():
            await session.execute(text("SELECT 7"))

    async def write(self) -> None:
        async with self.make() as session, session.begin():
            await session.execute(INSERT, {"name": new_name()})

    async def nested(self) -> None:
        async with self.make() as session, session.begin():
            await session.execute(INSERT, {"name": new_name()})
            async with session.begin_nested():
                await session.execute(INSERT, {"name": new_name()})

    async def failing(self) -> None:
        async with self.make() as session, session.begin():
            await session.execute(INSERT, {"name": new_name()})
            raise HTTPException(409)
