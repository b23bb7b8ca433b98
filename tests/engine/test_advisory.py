"""`db.advisory_lock`: a lock of the server that outlives commits."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from dbscope import (
    AsyncDatabase,
    ConfigurationError,
    Database,
    DatabaseUnavailable,
    LockTimeout,
    PoolTimeout,
)
from tests.support.look import until
from tests.worlds import SYNC, Both, World, both_context, insert, is_sqlite

servers = pytest.mark.worlds(drivers=lambda each: not is_sqlite(each), places=["scope"])
HELD = {
    "postgresql": "SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory' AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    "mysql": "SELECT IS_USED_LOCK(CONCAT('dbscope ', SHA1(CONCAT(DATABASE(), ' job'))))",
}
KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


def holders(world: World) -> list[int]:
    """Return who has the lock, as the server tells another client."""
    rows = world.look.rows(HELD[world.look.url.get_backend_name()])
    return [who for (who,) in rows if who is not None]


def lock(db: Both, **how: Any) -> Any:
    """Hold the lock, without `async`."""
    return both_context(db.real.advisory_lock("job", **how))


@servers
def test_it_is_held_through_commits_and_given_back(world: World) -> None:
    """On the server, by one session, from the beginning of the block to its end."""

    def story(db: Both) -> None:
        with lock(db):
            mine = holders(world)
            assert len(mine) == 1
            for name in "ab":
                with db.scope():
                    insert(db, name)
                assert holders(world) == mine
            assert db.stats()["pool_checked_out"] == 1
            assert world.look.idle_in_transaction() == []
        assert holders(world) == []

    world.play(story)
    assert world.items() == ["a", "b"]


@servers
@pytest.mark.parametrize("timeout", [0, 0.05])
def test_who_waits_too_long_gets_an_error_of_ours(world: World, timeout: float) -> None:
    """And has no connection afterwards; then the lock can be had."""

    def story(db: Both) -> None:
        with lock(db):
            with pytest.raises(LockTimeout, match="'job'"), lock(db, timeout=timeout):
                pytest.fail("two have it")
            assert db.stats()["pool_checked_out"] == 1
        with lock(db, timeout=timeout):
            assert len(holders(world)) == 1

    world.play(story)


@servers
def test_an_error_leaves_it_as_it_is_and_gives_the_lock_back(world: World) -> None:
    """On the way out."""

    def story(db: Both) -> None:
        with pytest.raises(ZeroDivisionError), lock(db):
            raise ZeroDivisionError
        assert holders(world) == []

    world.play(story)


@servers
def test_inside_a_scope_it_counts_as_a_second_connection(world: World) -> None:
    """With one connection it would wait for ever, so it is refused at once."""
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 60}
    world.database = type(world.database)(world.url, engine_options=options)

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(PoolTimeout), lock(db):
            pytest.fail("there was a connection")
        assert db.stats()["second_connections"] == 1

    world.run(body)
    assert world.items() == ["a"]


@servers
@pytest.mark.parametrize("fails", [False, True])
def test_a_lock_that_was_lost_is_told_at_the_end(world: World, fails: bool) -> None:
    """Somebody else may have had it meanwhile; an error of the block's own is not replaced."""

    def story(db: Both) -> None:
        expected = ZeroDivisionError if fails else DatabaseUnavailable
        with pytest.raises(expected), lock(db):
            (who,) = holders(world)
            world.look.execute(KILL[world.look.url.get_backend_name()].format(who))
            assert until(lambda: holders(world) == [])
            if fails:
                raise ZeroDivisionError
        with lock(db):
            assert len(holders(world)) == 1

    world.play(story)


@pytest.mark.worlds(drivers=lambda each: not is_sqlite(each) and each not in SYNC, places=["scope"])
@pytest.mark.parametrize("when", ["waiting", "holding"])
def test_a_cancelled_task_neither_has_it_nor_waits_for_it(world: World, when: str) -> None:
    """The connection is not left to whoever comes next."""
    db: Any = world.database

    async def hold(there: asyncio.Event) -> None:
        async with db.advisory_lock("job"):
            there.set()
            await asyncio.sleep(60)

    async def story() -> None:
        first, second = asyncio.Event(), asyncio.Event()
        holding = asyncio.create_task(hold(first))
        await first.wait()
        waiting = asyncio.create_task(hold(second))
        await asyncio.sleep(0.1)
        for task in (waiting, holding) if when == "waiting" else (holding, waiting):
            task.cancel()
            if task is holding and when == "holding":
                await asyncio.wait_for(second.wait(), 30)
            with suppress(asyncio.CancelledError):
                await task
        assert db.stats()["pool_checked_out"] == 0
        await db.dispose()

    asyncio.run(story())
    assert until(lambda: holders(world) == [])


@pytest.mark.parametrize("kind", [AsyncDatabase, Database])
def test_sqlite_has_none(kind: Any) -> None:
    """It would be a lock of this process, or of one machine, and no more."""
    with pytest.raises(ConfigurationError, match="advisory_lock"):
        if kind is Database:
            with kind("sqlite:///a.db").advisory_lock("job"):
                pass
        else:
            asyncio.run(kind("sqlite:///a.db").advisory_lock("job").__aenter__())


@pytest.mark.worlds(drivers=lambda driver: driver == "psycopg sync", places=["scope"])
def test_behind_a_pooler_it_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that answers is not the one that the driver was told of."""
    monkeypatch.setattr("dbscope.backends.postgresql.backend.process_of", lambda connection: -1)

    def story(db: Both) -> None:
        with pytest.raises(ConfigurationError, match="pooler"), lock(db):
            pytest.fail("it was given")
        assert until(lambda: holders(world) == [])

    world.play(story)
