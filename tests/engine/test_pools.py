"""Any class of pools: it works as ours do, or is refused when the database is made."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import create_engine, event, select, text
from sqlalchemy import pool as pools
from sqlalchemy.ext.asyncio import create_async_engine

from dbscope import ConfigurationError, Database, PoolTimeout
from dbscope.engine.pool import capacity
from tests.support.look import until
from tests.worlds import Both, Item, World, insert, is_postgresql, plain_engine

QUEUES = {True: pools.AsyncAdaptedQueuePool, False: pools.QueuePool}
CLASSES = {
    "queue": QUEUES.__getitem__,
    "none": lambda is_async: pools.NullPool,
    "static": lambda is_async: pools.StaticPool,
    "assertion": lambda is_async: pools.AssertionPool,
}
with_each_class = pytest.mark.parametrize("name", CLASSES)
in_scope = pytest.mark.worlds(places=["scope"])


def with_pool(world: World, name: str, **more: Any) -> None:
    """Let the database have a pool of this class."""
    options = {"poolclass": CLASSES[name](world.is_async), **more}
    world.database = type(world.database)(world.url, engine_options=options)


@with_each_class
def test_it_serves_like_any_other(world: World, name: str) -> None:
    """What was added is stored, in each place, and what failed is not."""
    with_pool(world, name)

    def story(db: Both) -> None:
        world.inside(db, lambda db: insert(db, "a"))
        with suppress(ZeroDivisionError):
            world.inside(db, failing)

    def failing(db: Both) -> None:
        insert(db, "b")
        raise ZeroDivisionError

    world.play(story)
    assert world.items() == ["a"]


@in_scope
def test_it_logs_where_sqlalchemy_says_that_pools_do(world: World, caplog: Any) -> None:
    """A root logger at INFO hears nothing of it, as of SQLAlchemy's own."""
    caplog.set_level("INFO")
    world.play(lambda db: world.inside(db, lambda db: insert(db, "a")))
    assert "Pool disposed" not in caplog.text
    caplog.set_level("INFO", logger="sqlalchemy.pool")
    world.play(lambda db: world.inside(db, lambda db: insert(db, "b")))
    assert "Pool disposed" in caplog.text


@in_scope
@with_each_class
def test_what_is_out_is_counted(world: World, name: str) -> None:
    """Of pools too that do not count themselves."""
    with_pool(world, name)

    def story(db: Both) -> None:
        assert db.stats()["pool_checked_out"] == 0
        with db.scope():
            insert(db, "a")
            assert db.stats()["pool_checked_out"] == 1
        with db.scope(readonly=True), db.atomic():
            db.scalars(select(Item)).all()
            assert db.stats()["pool_checked_out"] == 1
        assert db.stats()["pool_checked_out"] == 0

    world.play(story)


@in_scope
@with_each_class
def test_after_dispose_it_begins_anew(world: World, name: str) -> None:
    """And what was said to the engine is heard in the new pool, too."""
    with_pool(world, name)
    heard: list[Any] = []

    def story(db: Both) -> None:
        event.listen(plain_engine(world.database), "connect", lambda *args: heard.append(args))
        world.inside(db, lambda db: insert(db, "a"))
        before = len(heard)
        db.dispose()
        world.inside(db, lambda db: insert(db, "b"))
        assert len(heard) > before > 0

    world.play(story)
    assert world.items() == ["a", "b"]


def clients(world: World) -> set[int]:
    """Return whom the server serves; none where there is none."""
    return set() if world.is_sqlite else {each.pid for each in world.look.backends()}


@in_scope
def test_what_is_out_when_all_are_closed_is_closed_when_it_comes_back(world: World) -> None:
    """Its pool was left, and nobody would ever close what that keeps."""
    opened: list[Any] = []
    closed: list[Any] = []

    def story(db: Both) -> None:
        engine, before = plain_engine(world.database), clients(world)
        event.listen(engine, "connect", lambda connection, record: opened.append(connection))
        event.listen(engine, "close", lambda connection, record: closed.append(connection))
        with db.scope():
            insert(db, "a")
            db.dispose()
            assert len(closed) == len(opened) - 1
        assert closed == opened
        assert until(lambda: clients(world) == before)
        world.inside(db, lambda db: insert(db, "b"))
        assert len(closed) == len(opened) - 1
        assert db.stats()["pool_checked_out"] == 0

    world.play(story)
    assert world.items() == ["a", "b"]


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
@pytest.mark.parametrize("name", ["static", "assertion"])
def test_a_second_connection_where_there_is_one_is_refused_at_once(world: World, name: str) -> None:
    """By its own scope nobody could ever give it back."""
    with_pool(world, name)

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(PoolTimeout), db.scope():
            db.scalar(text("SELECT 1"))

    world.run(body)
    assert world.items() == ["a"]


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_a_second_connection_of_no_pool_is_counted(world: World) -> None:
    """There is always room for one more."""
    with_pool(world, "none")

    def body(db: Both) -> None:
        insert(db, "a")
        with db.scope():
            insert(db, "b")
        assert db.stats()["second_connections"] == 1

    world.run(body)
    assert sorted(world.items()) == ["a", "b"]


@in_scope
@with_each_class
def test_a_connection_that_comes_back_dirty_is_not_handed_out(world: World, name: str) -> None:
    """The guard looks at what leaves any pool, and at what comes back."""
    with_pool(world, name)

    def story(db: Both) -> None:
        with pytest.raises(RuntimeError), db.scope():
            insert(db, "a")
            raise RuntimeError
        world.inside(db, lambda db: insert(db, "b"))

    world.play(story)
    assert world.items() == ["b"]


@pytest.mark.parametrize("make", [create_engine, create_async_engine])
def test_a_ready_engine_of_one_connection_has_room_for_one(make: Callable[..., Any]) -> None:
    """A scope inside another would be in its transaction."""
    engine = make("sqlite+aiosqlite://" if make is create_async_engine else "sqlite://")
    assert capacity(getattr(engine, "sync_engine", engine)) == 1


def test_a_database_in_memory_cannot_be_without_a_pool() -> None:
    """It ends with its connection."""
    with pytest.raises(ConfigurationError, match="memory"):
        Database("sqlite://", engine_options={"poolclass": pools.NullPool})
