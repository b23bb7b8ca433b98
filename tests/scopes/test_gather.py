"""Functions that run at once, each in a scope of its own. Cases G13, G7."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from types import coroutine
from typing import Any

import anyio
import pytest
from sqlalchemy import text

from dbscope import AsyncDatabase, Database
from dbscope.unit.current import current
from tests.scopes.stage import HOW, Cancelling
from tests.unit.hooks import Log, Trouble, fail
from tests.worlds import Both, World, insert, is_postgresql

pytestmark = pytest.mark.worlds(places=["scope"])

asynchronous = pytest.mark.worlds(
    drivers=lambda d: d in {"inline", "aiosqlite", "asyncpg", "psycopg async"}, places=["scope"]
)
plain = pytest.mark.worlds(drivers=lambda d: d in {"sqlite3", "psycopg sync"}, places=["scope"])


@pytest.fixture
def log() -> Log:
    return Log()


def inserting(db: Both, *names: str) -> list[Callable[[], Any]]:
    """Return functions that each store an item of that name, and return the name."""
    return [partial(lambda name: insert(db, name).name, name) for name in names]


@pytest.mark.worlds
def test_results_come_in_the_order_of_the_functions(world: World) -> None:
    """Whichever is done first; in a request, a scope and a block."""

    def body(db: Both) -> None:
        meet = world.barrier(2)

        def slow() -> str:
            meet()
            return "slow"

        def quick() -> str:
            meet()
            return "quick"

        assert db.gather(slow, quick) == ["slow", "quick"]
        assert db.gather() == []

    world.run(body)


@pytest.mark.worlds
def test_each_has_a_session_of_its_own(world: World) -> None:
    """G13: none of them is the session around, and each knows the scope that it was opened in."""

    def body(db: Both) -> None:
        around = current.get()

        def function() -> Any:
            scope = current.get()
            assert scope is not None
            assert scope.parent is around
            assert db.in_transaction()
            return db.real.session

        sessions = db.gather(*[function] * 3)
        assert len({id(each) for each in [db.real.session, *sessions]}) == 4
        assert current.get() is around

    world.run(body)


def test_what_they_did_is_stored(world: World, log: Log) -> None:
    """Each in a transaction of its own, whose hooks run after its COMMIT."""

    def story(db: Both) -> None:
        def hooked() -> None:
            insert(db, "c")
            db.on_commit(log.note("stored"))

        assert db.gather(*inserting(db, "a", "b"), hooked) == ["a", "b", None]

    world.play(story)
    assert sorted(world.items()) == ["a", "b", "c"]
    assert log == ["stored"]
    assert world.sent().count("COMMIT") == 3


def test_a_failure_keeps_nothing_half_done(world: World) -> None:
    """What had ended is stored; what failed, or was interrupted by that, is not."""

    def story(db: Both) -> None:
        def failing() -> None:
            insert(db, "half of b")
            fail()

        with pytest.raises(Trouble):
            db.gather(*inserting(db, "a"), failing, *inserting(db, "c"), limit=1)

    world.play(story)
    assert world.items() == ["a"]


def test_what_has_not_begun_is_not_begun_after_a_failure(world: World, log: Log) -> None:
    """They wait for their place, and get none."""

    def story(db: Both) -> None:
        with pytest.raises(Trouble):
            db.gather(fail, *[log.note("begun")] * 20, limit=1)

    world.play(story)
    assert log == []


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_than_the_limit_run_at_once(world: World, limit: int) -> None:
    """Each needs a connection, so the limit is for the pool's sake."""
    running: list[int] = []
    most: list[int] = []

    def story(db: Both) -> None:
        meet = world.barrier(limit)

        def function() -> None:
            running.append(1)
            most.append(len(running))
            meet()
            db.scalar(text("SELECT 1"))
            running.pop()

        db.gather(*[function] * (limit * 4), limit=limit)

    world.play(story)
    assert max(most) == limit
    assert len(most) == limit * 4


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_they_share_what_a_small_pool_has_left(world: World) -> None:
    """All of them wait for one holder, who keeps one connection of two: that is no deadlock."""

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "around")
            assert db.gather(*inserting(db, *"abcde")) == list("abcde")

    options = {"pool_size": 2, "max_overflow": 0, "pool_timeout": 40}
    world.database = type(world.database)(world.url, engine_options=options)
    world.play(story)
    assert len(world.items()) == 6


def test_several_failures_are_told_as_one(world: World) -> None:
    """The first is raised, the others are noted on it."""

    def story(db: Both) -> None:
        meet = world.barrier(2)

        def failing(error: type[Exception]) -> None:
            try:
                meet()
            finally:
                raise error

        with pytest.raises((KeyError, ValueError)) as raised:
            db.gather(partial(failing, KeyError), partial(failing, ValueError))
        (note,) = raised.value.__notes__
        other = KeyError if isinstance(raised.value, ValueError) else ValueError
        assert note == f"Another failure at the same end: {other()!r}"

    world.play(story)


def test_a_rollback_ends_only_its_own(world: World) -> None:
    """It is the way out of one scope, and no failure."""

    def story(db: Both) -> None:
        def leaving() -> None:
            insert(db, "b")
            raise db.real.Rollback

        assert db.gather(*inserting(db, "a"), leaving) == ["a", None]

    world.play(story)
    assert world.items() == ["a"]


@asynchronous
def test_the_first_failure_counts_where_tasks_begin_at_once(world: World, log: Log) -> None:
    """With `asyncio.eager_task_factory` a function may fail before there is a second task."""

    def story(db: Both) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(eager_task_factory)
        try:
            with pytest.raises(Trouble):
                db.gather(fail, log.note("begun"))
        finally:
            loop.set_task_factory(None)

    world.play(story)
    assert log == []


def beginning_at_once(
    loop: asyncio.AbstractEventLoop, given: Any, **kwargs: Any
) -> asyncio.Future[Any]:
    """Make a task that takes its first step at once, for Python 3.11.

    It is no task if that was the last one; what later versions of Python ask of one, it has not.
    """
    try:
        waits_for = given.send(None)
    except StopIteration as done:
        future = loop.create_future()
        future.set_result(done.value)
        return future
    return asyncio.Task(going_on(given, waits_for), loop=loop, **kwargs)


@coroutine
def going_on(begun: Any, waits_for: Any) -> Any:
    """Take the other steps of a coroutine, each when what it waits for is there."""
    try:
        while True:
            try:
                yield waits_for
            except BaseException as error:
                waits_for = begun.throw(error)
            else:
                waits_for = begun.send(None)
    except StopIteration as done:
        return done.value


eager_task_factory = getattr(asyncio, "eager_task_factory", beginning_at_once)


@asynchronous
@pytest.mark.parametrize("verb", ["on_commit", "on_rollback"])
def test_a_task_that_begins_at_once_in_a_hook_goes_on_without_it(world: World, verb: str) -> None:
    """It begins in the greenlet of the hook, and ends in that of the loop."""

    async def main() -> None:
        db = world.database
        assert isinstance(db, AsyncDatabase)
        tasks: list[asyncio.Future[None]] = []

        async def later() -> None:
            async with db.scope():
                await db.execute(text("INSERT INTO item (name) VALUES ('later')"))
                await asyncio.sleep(0)
                await db.execute(text("UPDATE item SET name = 'still' WHERE name = 'later'"))

        async with db.scope():
            await db.execute(text("INSERT INTO item (name) VALUES ('first')"))
            getattr(db, verb)(lambda: tasks.append(asyncio.ensure_future(later())))
            db.set_rollback(verb == "on_rollback")
        await asyncio.gather(*tasks)
        await db.dispose()

    async def at_once() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(eager_task_factory)
        try:
            await main()
        finally:
            loop.set_task_factory(None)

    asyncio.run(at_once())
    assert world.items() == ["first"] * (verb == "on_commit") + ["still"]


@asynchronous
def test_the_first_failure_cancels_the_others(world: World, log: Log) -> None:
    """They roll back and clean up before the error is raised."""

    async def main() -> None:
        db = world.database
        assert isinstance(db, AsyncDatabase)
        has_written = asyncio.Event()

        async def endless() -> None:
            db.on_rollback(log.note("undone"))
            await db.execute(text("INSERT INTO item (name) VALUES ('half')"))
            has_written.set()
            try:
                await asyncio.Event().wait()
            finally:
                log.append("left")

        async def failing() -> None:
            await has_written.wait()
            raise Trouble

        with pytest.raises(Trouble) as raised:
            await db.gather(endless, failing)
        assert not hasattr(raised.value, "__notes__")
        assert log == ["left", "undone"]
        assert db.stats()["pool_checked_out"] == 0
        await db.dispose()

    asyncio.run(main())
    assert world.items() == []


@asynchronous
@pytest.mark.parametrize("cancelling", HOW)
def test_a_cancellation_ends_all_of_them(world: World, log: Log, cancelling: Cancelling) -> None:
    """G7: all are rolled back when it arrives at the caller."""

    async def main() -> None:
        db = world.database
        assert isinstance(db, AsyncDatabase)
        begun = asyncio.Barrier(3)

        async def endless(*statements: str) -> None:
            for each in statements:
                await db.execute(text(each))
            try:
                await begun.wait()
                await asyncio.Event().wait()
            finally:
                log.append("left")

        async def work() -> None:
            try:
                # Of SQLite's transactions only one would begin.
                await db.gather(endless, partial(endless, "SELECT 1"))
            finally:
                assert db.stats()["pool_checked_out"] == 0
                assert log == ["left", "left"]

        await cancelling.run(work(), begun.wait)
        await db.dispose()

    asyncio.run(main())


@asynchronous
def test_a_function_that_was_cancelled_by_others_has_failed(world: World) -> None:
    """It gives no result, so there is none to return."""

    async def main() -> None:
        db = world.database
        assert isinstance(db, AsyncDatabase)

        async def cancelled() -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        with pytest.raises(asyncio.CancelledError):
            await db.gather(cancelled, anyio.sleep_forever)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        await db.dispose()

    asyncio.run(main())


@plain
def test_threads_that_run_are_waited_for(world: World, log: Log) -> None:
    """A thread cannot be cancelled: what runs ends in its own way, and is kept."""

    def story(db: Both) -> None:
        both, has_failed = threading.Barrier(2, timeout=40), threading.Event()

        def failing() -> None:
            both.wait()
            try:
                raise Trouble
            finally:
                has_failed.set()

        def running() -> None:
            both.wait()
            assert has_failed.wait(40)
            insert(db, "a")
            log.append("ended")

        with pytest.raises(Trouble):
            db.gather(failing, running)
        assert log == ["ended"]

    world.play(story)
    assert world.items() == ["a"]


# -- misuse ----------------------------------------------------------------------------------------


def test_calls_are_not_functions() -> None:
    """`gather(f(1))` is what asyncio wants; here each call needs a scope first."""
    db = AsyncDatabase("sqlite://")

    async def function() -> None: ...

    async def main() -> None:
        with pytest.raises(TypeError, match="gather\\(\\) calls the functions itself"):
            await db.gather(function(), function())  # type: ignore[arg-type]

    asyncio.run(main())
    with pytest.raises(TypeError, match="is not callable"):
        Database("sqlite://").gather(7)  # type: ignore[arg-type]


def test_a_limit_lets_somebody_run() -> None:
    """Zero would wait for ever."""
    with pytest.raises(ValueError, match="limit must be at least 1, or None, not 0"):
        Database("sqlite://").gather(dict, limit=0)
