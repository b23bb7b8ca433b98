"""Who was waited for: a connection, the turn to write, a row, a lock by name; and who holds."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from dbscope import PoolTimeout
from dbscope.backends.mysql.lock_waits import MySQLLockWaits
from dbscope.backends.postgresql.lock_waits import PostgreSQLLockWaits
from dbscope.watch.records import Record
from tests.conflicts import with_options
from tests.watch.lines import at
from tests.worlds import DRIVERS, MYSQL, Both, World, both_context, insert, is_postgresql, is_sqlite

HERE = [name for name in DRIVERS if is_sqlite(name) or is_postgresql(name)]
PATIENCE = 20  # seconds
pytestmark = pytest.mark.worlds(drivers=HERE.__contains__, places=["scope"])
ONE = {"pool_size": 1, "max_overflow": 0, "pool_timeout": PATIENCE}
servers = pytest.mark.worlds(
    drivers=lambda name: is_postgresql(name) or name in MYSQL, places=["scope"]
)
mariadb = pytest.mark.worlds(drivers={"pymysql"}.__contains__, places=["scope"])
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


@servers
def test_a_row_that_another_transaction_has_changed(world: World, watch: Any) -> None:
    """Both sides are known: the server tells processes, and whose they are we know."""
    watch().start()
    world.look.execute("INSERT INTO item (name) VALUES ('a')")

    def story(db: Both) -> None:
        started: list[int] = []

        def change() -> None:
            db.execute(text("UPDATE item SET name = concat(name, 'x')"))

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


@servers
def test_a_row_that_another_program_has_locked(world: World, watch: Any) -> None:
    """It is named as the server knows it."""
    watch().start()
    world.look.execute("INSERT INTO item (name) VALUES ('a')")
    with another_program(world) as other:
        other.execute(text("UPDATE item SET name = 'b'"))

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
    wait = only_wait(record)
    assert wait.what == "a row of item"
    assert "(process " in wait.whom[0]
    assert "idle in transaction for " in wait.whom[0]


@mariadb
def test_a_wait_of_before_is_not_taken_for_one_of_now(world: World, watch: Any) -> None:
    """InnoDB tells what it knew, as long as somebody reads it all the time."""
    world.look.execute("INSERT INTO item (name) VALUES ('a')")
    with another_program(world) as other, another_program(world) as waits:
        thread = waits.scalar(text("SELECT connection_id()"))
        other.execute(text("UPDATE item SET name = 'b'"))
        asks = MySQLLockWaits(make_url(world.url), {})
        with ThreadPoolExecutor(1) as threads:
            done = threads.submit(waits.execute, text("UPDATE item SET name = 'c'"))
            until_told(lambda: asks.ask([thread]))
            other.rollback()
            done.result()
        with ThreadPoolExecutor(1) as threads:
            read_on = partial(other.execute, text("SELECT 1 FROM information_schema.innodb_trx"))
            threads.submit(waits.execute, text("SELECT sleep(3)"))
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                read_on()
                time.sleep(0.02)
            assert other.scalar(text("SELECT count(*) FROM information_schema.innodb_lock_waits"))
            assert asks.ask([thread]) == []
        asks.close()


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_who_asks_is_seen_at_the_server(world: World) -> None:
    """By who administers it: the question says whose it is."""
    asks: Any = PostgreSQLLockWaits(make_url(world.url), {})
    try:
        assert asks.ask([1]) == []
        process = asks._connection.connection.driver_connection.info.backend_pid
        asked = {each.pid: each.query.strip() for each in world.look.backends()}
        assert asked[process].startswith("/* dbscope watch */")
    finally:
        asks.close()


@servers
def test_who_asks_has_a_new_connection_after_one_was_lost(world: World) -> None:
    """A server that was started anew is not silent for ever."""
    backend: Any = world.database._source.backend
    asks = backend.lock_waits({})
    assert asks.ask([1]) == []
    process = backend.process_of(asks._connection)
    on_postgresql = f"SELECT pg_terminate_backend({process})"
    world.look.execute(f"KILL {process}" if world.driver in MYSQL else on_postgresql)
    asks._next = 0.0
    with pytest.raises(DBAPIError):
        asks.ask([1])
    assert asks.ask([1]) == []
    asks.close()


@contextmanager
def another_program(world: World) -> Iterator[Connection]:
    """Give a connection that is none of the library's."""
    url = make_url(world.url)
    driver = "postgresql+psycopg" if url.drivername.startswith("postgresql") else "mysql+pymysql"
    engine = create_engine(url.set(drivername=driver), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def until_told(asked: Callable[[], object]) -> None:
    """Ask until there is an answer, as often as the library does."""
    end = time.monotonic() + PATIENCE
    while not asked():
        assert time.monotonic() < end
        time.sleep(0.05)


@servers
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
