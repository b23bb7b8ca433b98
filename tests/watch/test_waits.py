"""Who was waited for: a connection, the turn to write, a row, a lock by name; and who holds."""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.util import await_only

from dbscope import PoolTimeout
from dbscope.watch.records import Record
from tests.conflicts import with_options
from tests.watch.lines import at
from tests.worlds import DRIVERS, Both, World, both_context, insert, is_postgresql, is_sqlite

HERE = [name for name in DRIVERS if is_sqlite(name) or is_postgresql(name)]
PATIENCE = 20  # seconds
pytestmark = pytest.mark.worlds(drivers=HERE.__contains__, places=["scope"])
ONE = {"pool_size": 1, "max_overflow": 0, "pool_timeout": PATIENCE}
TWO = {"pool_size": 2, "max_overflow": 0, "pool_timeout": PATIENCE}


@pytest.fixture
def watch(world: World) -> Iterator[Callable[[], Any]]:
    """Return the watch of the world, which is on; a test may have made another database."""
    yield lambda: world.database.watch
    world.database.watch.stop()


def reading(db: Both) -> Any:
    """Open a transaction that only reads, which does not wait for the turn to write of SQLite."""
    return db.atomic(readonly=True)


def until(world: World, holds: Callable[[], object]) -> None:
    """Wait for what another story is about to do."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        if world.is_async:
            await_only(asyncio.sleep(0.005))
        else:
            time.sleep(0.005)


def waiting(watch: Any) -> bool:
    """Tell whether anybody waits."""
    return any(draft.waiting for draft in tuple(watch.recorder.drafts.values()))


def record_by(watch: Any, name: str) -> Record:
    """Return the record of the scope that was opened at a mark."""
    return next(record for record in watch.recent() if name in record.name)


def only_wait(record: Record) -> Any:
    """Return the one wait of a record in which somebody was waited for."""
    (wait,) = [each for each in record.waits if each.whom]
    return wait


def test_a_connection_that_another_scope_holds(world: World, watch: Any) -> None:
    """Its holder is named, with what it does meanwhile, and since when."""
    with_options(world, **ONE)
    watch().start()

    def story(db: Both) -> None:
        started: list[int] = []

        def first() -> None:
            with both_context(db.real.scope(atomic=False)), reading(db):  # first
                db.execute(text("SELECT 1"))  # held
                started.append(1)
                until(world, partial(waiting, watch()))

        def second() -> None:
            until(world, lambda: started)
            with both_context(db.real.scope(atomic=False)), reading(db):  # second
                db.execute(text("SELECT 2"))

        world.at_once(first, second)

    world.play(story)
    wait = only_wait(record_by(watch(), at("second")))
    assert (wait.what, wait.granted) == ("a connection", True)
    assert f"the scope opened at {at('first')} (idle for " in wait.whom[0]
    assert "; waited " in str(record_by(watch(), at("second")))
    assert " s for a connection, held by the scope" in str(record_by(watch(), at("second")))


def test_a_connection_that_is_waited_for_in_vain(world: World, watch: Any) -> None:
    """It is the reason, and the holder is told."""
    with_options(world, **ONE | {"pool_timeout": 0.05})
    watch().start()

    def story(db: Both) -> None:
        started: list[int] = []
        ended: list[int] = []

        def first() -> None:
            with db.scope(atomic=False), reading(db):
                db.execute(text("SELECT 1"))
                started.append(1)
                until(world, lambda: ended)

        def second() -> None:
            until(world, lambda: started)
            try:
                with pytest.raises(PoolTimeout), db.scope(atomic=False), reading(db):
                    db.execute(text("SELECT 2"))
            finally:
                ended.append(1)

        world.at_once(first, second)

    world.play(story)
    record = next(record for record in watch().recent() if record.reason)
    assert str(record).startswith("rolled back, PoolTimeout raised at ")
    assert "; waited in vain " in str(record)


def test_a_second_connection(world: World, watch: Any) -> None:
    """A scope inside another one waits for what all hold, the scope around it too."""
    with_options(world, **TWO)
    watch().start()

    def story(db: Both) -> None:
        started: list[int] = []

        def nested() -> None:
            until(world, lambda: started)
            with db.scope(atomic=False), reading(db):
                db.execute(text("SELECT 1"))
                with db.scope(atomic=False), reading(db):
                    db.execute(text("SELECT 2"))

        def other() -> None:
            with db.scope(atomic=False), reading(db):
                db.execute(text("SELECT 1"))
                started.append(1)
                until(world, partial(waiting, watch()))

        world.at_once(nested, other)

    world.play(story)
    (record,) = [each for each in watch().recent() if any(wait.whom for wait in each.waits)]
    assert len(only_wait(record).whom) == 2
    assert " and 1 other" in str(record)


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
def test_the_turn_to_write(world: World, watch: Any) -> None:
    """SQLite has one writer at a time; who it is, we know."""
    watch().start()

    def story(db: Both) -> None:
        started: list[int] = []

        def first() -> None:
            with db.scope():
                insert(db, "a")
                started.append(1)
                until(world, partial(waiting, watch()))

        def second() -> None:
            until(world, lambda: started)
            with db.scope():
                insert(db, "b")

        world.at_once(first, second)

    world.play(story)
    (record,) = [each for each in watch().recent() if each.waits]
    wait = only_wait(record)
    assert wait.what == "the turn to write"
    assert " (idle for " in wait.whom[0]
    assert world.items() == ["a", "b"]


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_a_row_that_another_transaction_has_changed(world: World, watch: Any) -> None:
    """Both sides are known: the server tells processes, and whose they are we know."""
    watch().start()
    world.look.execute("INSERT INTO item (name) VALUES ('a')")

    def story(db: Both) -> None:
        started: list[int] = []

        def change() -> None:
            db.execute(text("UPDATE item SET name = name || 'x'"))

        def first() -> None:
            with db.scope():
                change()
                started.append(1)
                until(world, partial(waiting, watch()))

        def second() -> None:
            until(world, lambda: started)
            with db.scope():
                change()

        world.at_once(first, second)

    world.play(story)
    (record,) = [each for each in watch().recent() if each.waits]
    wait = only_wait(record)
    assert wait.what == "a row of item"
    assert "the scope opened at " in wait.whom[0]
    assert " (idle for " in wait.whom[0]


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_a_row_that_another_program_has_locked(world: World, watch: Any) -> None:
    """It is named as the server knows it."""
    watch().start()
    world.look.execute("INSERT INTO item (name) VALUES ('a')")
    address = world.look.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address) as other:
        other.execute("UPDATE item SET name = 'b'")

        def story(db: Both) -> None:
            def wait() -> None:
                with db.scope():
                    db.execute(text("UPDATE item SET name = 'c'"))

            def end() -> None:
                until(world, partial(waiting, watch()))
                other.rollback()

            world.at_once(wait, end)

        world.play(story)
    (record,) = watch().recent()
    assert "(process " in only_wait(record).whom[0]


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_a_lock_by_name(world: World, watch: Any) -> None:
    """Of `db.advisory_lock`, with the scope that has it."""
    watch().start()

    def story(db: Both) -> None:
        started: list[int] = []

        def lock() -> Any:
            return both_context(db.real.advisory_lock("nightly"))

        def first() -> None:
            with db.scope():
                db.execute(text("SELECT 1"))
                with lock():
                    started.append(1)
                    until(world, partial(waiting, watch()))

        def second() -> None:
            until(world, lambda: started)
            with db.scope():
                db.execute(text("SELECT 2"))
                with lock():
                    pass

        world.at_once(first, second)

    world.play(story)
    (record,) = [each for each in watch().recent() if any(wait.whom for wait in each.waits)]
    wait = only_wait(record)
    assert wait.what == "the lock 'nightly'"
    assert wait.whom[0].startswith("the scope opened at ")


def test_a_gap_is_told_with_both_lines_and_what_was_awaited(world: World, watch: Any) -> None:
    """Where a transaction was held for something else."""
    watch().start()

    def story(db: Both) -> None:
        def hold() -> None:
            with db.scope():
                db.execute(text("SELECT 1"))
                until(world, lambda: was_seen(watch(), "asyncio.sleep" if world.is_async else ""))
                db.execute(text("SELECT 2"))

        hold()

    world.play(story)
    (record,) = watch().recent()
    (gap,) = record.gaps
    assert gap.after is not None
    assert gap.before is not None
    assert gap.awaited is not None


def was_seen(watch: Any, doing: str) -> bool:
    """Tell whether somebody was seen to do this while he held a connection."""
    return any(
        draft.awaited and doing in draft.awaited for draft in tuple(watch.recorder.drafts.values())
    )
