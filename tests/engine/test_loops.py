"""Event loops: one after the other, a loop for each test, and two at once."""

import asyncio
import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import MetaData, NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from dbscope import AsyncDatabase, ConfigurationError, ScopeMissing
from tests.support.look import until
from tests.worlds import SYNC, Item, World

BOUND = {"asyncpg", "asyncmy"}
pytestmark = pytest.mark.worlds(drivers=lambda driver: driver not in SYNC, places=["scope"])
bound = pytest.mark.worlds(drivers=BOUND.__contains__, places=["scope"])
unbound = pytest.mark.worlds(drivers=lambda each: each not in SYNC | BOUND, places=["scope"])
AT_ONCE = 20  # more than there are connections, so that some wait


async def store(db: AsyncDatabase, name: str) -> None:
    """Store an item."""
    async with db.scope():
        db.session.add(Item(name=name))


async def ask(db: AsyncDatabase) -> list[int]:
    """Ask for a number, many at once."""

    async def one() -> int:
        async with db.scope():
            await asyncio.sleep(0)
            return int(await db.scalar(text("SELECT 1")))

    return await asyncio.gather(*(one() for _ in range(AT_ONCE)))


@pytest.fixture
def silent() -> Iterator[None]:
    """Nothing complains when it is collected."""
    gc.collect()  # what others have left
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(each.message) for each in seen if each.category is ResourceWarning] == []


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("given", [False, True], ids=["made", "given"])
def test_one_loop_after_another_just_works(world: World, given: bool) -> None:
    """`asyncio.run` for each job: what lived in a loop that is closed is renewed."""
    if given:
        world.database = AsyncDatabase(engine=create_async_engine(world.url))
    db: Any = world.database
    for name in "abc":
        asyncio.run(store(db, name))
        assert asyncio.run(ask(db)) == [1] * AT_ONCE
    assert world.items() == ["a", "b", "c"]
    asyncio.run(db.dispose())
    if not world.is_sqlite:
        assert until(lambda: world.look.idle_in_transaction() == [])


@pytest.mark.usefixtures("silent")
def test_a_client_without_with_has_a_loop_for_each_request(world: World) -> None:
    """`TestClient(app)`, as most tests have it."""
    db: Any = world.database
    app = FastAPI()
    db.install(app)

    @app.post("/{name}")
    async def create(name: str) -> None:
        db.session.add(Item(name=name))

    client = TestClient(app)
    assert [client.post(f"/{name}").status_code for name in "abc"] == [200] * 3
    assert world.items() == ["a", "b", "c"]
    asyncio.run(db.dispose())


@pytest.mark.parametrize("pool", [None, NullPool], ids=["usual", "none"])
def test_two_loops_that_live_take_turns(world: World, pool: Any) -> None:
    """Where the connections belong to no loop, or none is kept."""
    if pool is None and world.driver in BOUND:
        pool = NullPool
    if pool is not None:
        world.database = AsyncDatabase(world.url, engine_options={"poolclass": pool})
    db: Any = world.database
    loops = [asyncio.new_event_loop() for _ in range(2)]
    for number in range(4):
        loop = loops[number % 2]
        loop.run_until_complete(store(db, f"{number}"))
        assert loop.run_until_complete(ask(db)) == [1] * AT_ONCE
    loops[1].run_until_complete(db.dispose())
    for loop in loops:
        loop.close()
    assert world.items() == ["0", "1", "2", "3"]


async def add_only(db: AsyncDatabase) -> None:
    """Do what is begun by a flush."""
    await store(db, "other")


async def connect(db: AsyncDatabase) -> None:
    """Ask for the connection."""
    async with db.scope():
        await db.session.connection()


async def in_a_hook(db: AsyncDatabase) -> None:
    """Do it after COMMIT."""

    async def hook() -> None:
        await db.execute(text("SELECT 1"))

    async with db.scope():
        db.on_commit(hook)


WAYS = {
    "statement": ask,
    "flush": add_only,
    "connection": connect,
    "ping": lambda db: db.ping(),
    "ensure_schema": lambda db: db.ensure_schema(MetaData()),
    "hook": in_a_hook,
}


@bound
@pytest.mark.parametrize("way", WAYS)
def test_the_connections_of_another_loop_that_lives_are_refused(world: World, way: str) -> None:
    """On every way, by an error that says what to do; and the first loop goes on."""
    db: Any = world.database
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    first.run_until_complete(store(db, "a"))
    with pytest.raises(ConfigurationError, match=r"(?s)TestClient.*dispose"):
        second.run_until_complete(WAYS[way](db))
    first.run_until_complete(store(db, "b"))
    first.run_until_complete(db.dispose())
    second.run_until_complete(store(db, "c"))
    second.run_until_complete(db.dispose())
    first.close()
    second.close()
    assert world.items() == ["a", "b", "c"]


@pytest.mark.parametrize("way", ["ping", "scope"])
def test_without_a_loop_of_asyncio_it_is_said_what_is_needed(world: World, way: str) -> None:
    """Trio, say, runs coroutines by itself; nothing of a scope that was not entered is left."""
    db: Any = world.database
    coroutine = db.ping() if way == "ping" else db.scope().__aenter__()
    with pytest.raises(ConfigurationError, match="choose its backend `asyncio`"):
        coroutine.send(None)
    with pytest.raises(ScopeMissing):
        _ = db.session
