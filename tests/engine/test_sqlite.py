"""SQLite by one exact recipe, the same for all drivers. Cases J and G9."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, make_url, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only, greenlet_spawn

from dbscope import AsyncDatabase, Database, DatabaseUnavailable, TransactionManagementError
from dbscope.backends.sqlite import recipe
from dbscope.sqlite_inline import files, pysqlite, queue
from tests.worlds import SYNC, Base, Both, Child, Item, World, insert, plain_engine

KINDS = {"inline": AsyncDatabase, "aiosqlite": AsyncDatabase, "sqlite3": Database}
NAMES = {"inline": "inline", "aiosqlite": "aiosqlite", "sqlite3": "pysqlite"}
SQLITE = pytest.mark.worlds(places=["scope"], drivers=lambda driver: driver in KINDS)
EVERYWHERE = pytest.mark.worlds(drivers=lambda driver: driver in KINDS)


class Trouble(Exception):
    """Something that the application raises."""


def play(kind: str, url: str, story: Callable[[Both], Any]) -> None:
    """Run a story on a database that only it has."""
    database = KINDS[kind](url)
    if kind in SYNC:
        story(Both(database))
        database.dispose()
        return

    async def carried() -> None:
        await greenlet_spawn(story, Both(database))
        await database.dispose()

    asyncio.run(carried())


# -- transactions ----------------------------------------------------------------------------------


@EVERYWHERE
def test_a_savepoint_is_inside_the_transaction(world: World) -> None:
    """J1: even as its first statement (the driver's legacy mode keeps the row)."""

    def body(db: Both) -> None:
        db.execute(text("SAVEPOINT mine"))
        insert(db, "a")
        db.execute(text("RELEASE mine"))
        raise Trouble

    with pytest.raises(Trouble):
        world.run(body)
    assert world.items() == []


@EVERYWHERE
def test_a_schema_change_is_rolled_back_like_anything(world: World) -> None:
    """J2: a migration that fails half-way leaves nothing (the legacy mode keeps the table)."""

    def body(db: Both) -> None:
        db.execute(text("CREATE TABLE half (id INTEGER)"))
        db.execute(text("ALTER TABLE item ADD COLUMN price INTEGER"))
        db.execute(text("INSERT INTO half VALUES (1)"))
        raise Trouble

    with pytest.raises(Trouble):
        world.run(body)
    assert world.look.scalar("SELECT count(*) FROM sqlite_master WHERE name = 'half'") == 0
    assert len(world.look.rows("PRAGMA table_info(item)")) == 2


@SQLITE
def test_autocommit_is_visible_at_once_and_survives_rollback(world: World) -> None:
    """J4: with SQLAlchemy's AUTOCOMMIT and the usual recipes it is silently never committed."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            insert(db, "a")
            db.execute(text("INSERT INTO item (name) VALUES ('b')"))
            assert world.items() == ["a", "b"]
            db.session.rollback()

    world.play(story)
    assert world.items() == ["a", "b"]


@EVERYWHERE
def test_a_failed_commit_frees_the_write_lock_at_once(world: World) -> None:
    """G9: SQLite stays in the transaction, and the pool would keep it so."""
    states: list[bool] = []

    def orphan(db: Both) -> None:
        connection = db.session.connection()
        plain = getattr(connection, "sync_connection", connection)
        driver = plain.connection.driver_connection
        db.on_rollback(lambda: states.append(driver.in_transaction))
        db.session.add(Child(item_id=999))

    def story(db: Both) -> None:
        with pytest.raises(IntegrityError):
            world.inside(db, orphan)
        assert world.look.write_lock_is_free()
        world.inside(db, lambda db: insert(db, "a"))

    world.play(story)
    assert (states, world.items()) == ([False], ["a"])


# -- every connection ------------------------------------------------------------------------------

PRAGMAS = {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 1, "busy_timeout": 5000}
BUSY_TIMEOUT = recipe.BUSY_TIMEOUT  # as it is where no test is patient


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for locks as long as it is in force for everybody."""
    monkeypatch.setattr(recipe, "BUSY_TIMEOUT", BUSY_TIMEOUT)


@SQLITE
def test_every_pooled_connection_is_set_up(world: World, impatient: None) -> None:
    """J5: what it says is what is in force, also after a transaction was rolled back."""
    world.database = type(world.database)(world.url)

    def read(connection: Any) -> dict[str, Any]:
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in PRAGMAS}

    def story(db: Both) -> None:
        with pytest.raises(Trouble), db.scope():
            insert(db, "a")
            raise Trouble
        with ExitStack() as stack:
            engine = plain_engine(db.real)
            connections = [stack.enter_context(engine.connect()) for _ in range(4)]
            assert [read(connection) for connection in connections] == [PRAGMAS] * 4

    world.play(story)


HELD = {"by who writes": "BEGIN IMMEDIATE", "by who reads": "BEGIN; SELECT * FROM item"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held", HELD)
def test_a_new_connection_waits_for_who_keeps_it_from_the_journal(
    tmp_path: Path, kind: str, held: str
) -> None:
    """A file of another program has no log of that kind yet, and SQLite refuses some at once."""
    path = tmp_path / "test.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
    for statement in HELD[held].split(";"):
        other.execute(statement).fetchall()
    timer = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    timer.start()

    def story(db: Both) -> None:
        with db.scope():
            assert db.scalar(text("PRAGMA journal_mode")) == "wal"
            insert(db, "a")

    with closing(other):
        try:
            play(kind, f"sqlite+{NAMES[kind]}:///{path}", story)
        finally:
            timer.join()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held", HELD)
def test_it_does_not_wait_for_ever(
    tmp_path: Path, kind: str, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But as long as any statement, and not once more where SQLite has waited already."""
    waits: list[object] = []
    wait = recipe._wait_until_nobody_writes
    monkeypatch.setattr(
        recipe, "_wait_until_nobody_writes", lambda who: (waits.append(who), wait(who))
    )
    path = tmp_path / "test.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
        for statement in HELD[held].split(";"):
            other.execute(statement).fetchall()

        def story(db: Both) -> None:
            with pytest.raises(DatabaseUnavailable, match="A new connection has waited too long"):
                db.ping()

        play(kind, f"sqlite+{NAMES[kind]}:///{path}?timeout=0.2", story)
    assert len(waits) <= (held == "by who writes" and kind != "inline")


def test_who_is_cancelled_while_a_connection_waits_holds_nothing(tmp_path: Path) -> None:
    """Whatever its thread still does, and as long as nobody has closed it."""
    path = tmp_path / "test.db"
    other = sqlite3.connect(path, isolation_level=None, timeout=1)
    other.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
    other.execute("BEGIN IMMEDIATE")

    async def main() -> None:
        options = {"isolation_level": None, "timeout": 20}
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args=options)
        async with engine.connect() as connection:
            kept = (await connection.get_raw_connection()).dbapi_connection
            task = asyncio.create_task(greenlet_spawn(recipe.set_up, kept))
            await asyncio.sleep(0.1)
            task.cancel()
            asyncio.get_running_loop().call_later(0.1, other.execute, "ROLLBACK")
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.2)  # now the thread has had the lock
            other.execute("BEGIN EXCLUSIVE")
            other.execute("ROLLBACK")
        await engine.dispose()

    with closing(other):
        asyncio.run(main())


@EVERYWHERE
def test_foreign_keys_are_in_force(world: World) -> None:
    """J5: a child without parent is not stored."""
    with pytest.raises(IntegrityError):
        world.run(lambda db: db.session.add(Child(item_id=999)))
    assert world.look.scalar("SELECT count(*) FROM child") == 0


# -- in memory -------------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each of the two drivers."""
    return request.param


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_one_database(kind: str, url: str) -> None:
    """Every scope sees what the others have stored; rollback works there, too."""

    def story(db: Both) -> None:
        db.ensure_schema(Base.metadata)
        with db.scope():
            insert(db, "a")
        with pytest.raises(Trouble), db.scope():
            insert(db, "b")
            raise Trouble
        with db.scope(atomic=False):
            assert list(db.scalars(select(Item.name))) == ["a"]
        db.ping()

    play(kind, url, story)


def test_two_databases_in_memory_are_two(kind: str) -> None:
    """Nothing is shared by chance, and neither waits for the other's writer."""
    other = Both(KINDS[kind]("sqlite://", name="other"))

    def story(db: Both) -> None:
        db.ensure_schema(Base.metadata)
        other.ensure_schema(Base.metadata)
        with db.scope():
            insert(db, "a")
            insert(other, "a")
        with other.scope():
            assert other.scalar(select(func.count(Item.id))) == 1
        other.dispose()

    play(kind, f"sqlite+{NAMES[kind]}://", story)


@SQLITE
def test_scopes_at_once_take_turns_in_memory(world: World) -> None:
    """There is one connection, and nobody gets an empty database of his own."""
    kind = world.driver

    def story(db: Both) -> None:
        db.ensure_schema(Base.metadata)

        def writer(name: str) -> Callable[[], None]:
            def write() -> None:
                with db.scope():
                    insert(db, name)

            return write

        world.at_once(*(writer(str(number)) for number in range(8)))
        with db.scope():
            assert db.scalar(select(func.count(Item.id))) == 8

    play(kind, f"sqlite+{NAMES[kind]}://", story)


# -- the write queue -------------------------------------------------------------------------------


def pause(world: World, seconds: float) -> None:
    """Wait without blocking others."""
    if world.is_async:
        await_only(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def until(world: World, holds: Callable[[], bool]) -> None:
    """Wait until something holds, without blocking others."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it was not so in time"
        pause(world, 0.002)


def queued(world: World) -> int:
    """Return how many wait for their turn to write to the file of this world."""
    path = files.path_of(make_url(world.url))
    known = list(queue._queues.items())
    return sum(len(each._waiting) for (_, file), each in known if file == path)


@SQLITE
def test_writers_take_turns_in_the_order_of_arrival(world: World) -> None:
    """Decision 16: SQLite's own lock lets them poll and starve."""
    last = 4

    def story(db: Both) -> None:
        began: list[int] = []

        def writer(number: int) -> Callable[[], None]:
            def write() -> None:
                if number:
                    until(world, lambda: bool(began) and queued(world) == number - 1)
                with db.scope():
                    insert(db, str(number))
                    began.append(number)
                    until(world, lambda: number > 0 or queued(world) == last)

            return write

        world.at_once(*(writer(number) for number in range(last + 1)))

    world.play(story)
    assert world.items() == ["0", "1", "2", "3", "4"]


@SQLITE
def test_two_databases_on_one_file_share_the_queue(world: World) -> None:
    """Decision 16: also when one of them writes its path in another way."""
    path = Path(world.url.partition("///")[2])
    winding = world.url.replace(str(path), f"{path.parent}/../{path.parent.name}/{path.name}")
    other = Both(type(world.database)(winding, name="other"))

    def story(db: Both) -> None:
        has_written = world.barrier(2)

        def first() -> None:
            with db.scope():
                insert(db, "first")
                has_written()
                until(world, lambda: queued(world) == 1)
                insert(db, "still first")

        def second() -> None:
            has_written()
            with other.scope():
                insert(other, "second")
            other.dispose()

        world.at_once(first, second)

    world.play(story)
    assert world.items() == ["first", "still first", "second"]


@SQLITE
def test_the_companion_shares_the_queue(world: World) -> None:
    """J7: a scope that writes through both would wait for itself, and is told so at once."""
    world.database = type(world.database)(world.url, allow_async_unsafe=True)
    companion = world.database.sync if world.is_async else world.database

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
            with pytest.raises(TransactionManagementError), companion.scope():
                companion.session.add(Item(name="b"))
                companion.session.flush()
        companion.dispose()

    world.play(story)
    assert world.items() == ["a"]


@SQLITE
def test_a_scope_inside_a_writing_scope_cannot_write(world: World, monkeypatch: Any) -> None:
    """J7: an immediate, clear error instead of five seconds and "database is locked"."""
    monkeypatch.setattr(
        "dbscope.backends.sqlite.recipe.BUSY_TIMEOUT", 3600
    )  # nobody waits for that

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
            with pytest.raises(TransactionManagementError, match="one writer"), db.scope():
                insert(db, "b")
            insert(db, "c")

    world.play(story)
    assert world.items() == ["a", "c"]


@SQLITE
def test_who_waits_too_long_is_told_for_whom(world: World, monkeypatch: Any) -> None:
    """Decision 16: the error names the writer's place; then the writer goes on."""
    monkeypatch.setattr("dbscope.backends.sqlite.recipe.BUSY_TIMEOUT", 0.1)

    def story(db: Both) -> None:
        has_written, has_failed = world.barrier(2), world.barrier(2)

        def slow() -> None:
            with db.scope():
                insert(db, "slow")
                has_written()
                has_failed()

        def hasty() -> None:
            has_written()
            with pytest.raises(DatabaseUnavailable, match=r"worlds\.py:\d+ has been writing"):
                world.in_scope(db, lambda db: insert(db, "hasty"))
            has_failed()

        world.at_once(slow, hasty)
        world.in_scope(db, lambda db: insert(db, "later"))

    world.play(story)
    assert world.items() == ["slow", "later"]


@pytest.mark.worlds(places=["scope"], drivers=lambda driver: driver in KINDS and driver not in SYNC)
def test_who_waits_can_be_cancelled(world: World) -> None:
    """Decision 16: and does not get the turn that somebody else waits for."""

    def story(db: Both) -> None:
        has_written, has_gone = world.barrier(2), world.barrier(3)

        def slow() -> None:
            with db.scope():
                insert(db, "slow")
                has_written()
                has_gone()
                until(world, lambda: queued(world) == 1)

        def cancelled() -> None:
            has_written()
            waiting = asyncio.create_task(greenlet_spawn(world.in_scope, db, name_it("never")))
            until(world, lambda: queued(world) == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await_only(waiting)
            has_gone()

        def patient() -> None:
            has_gone()
            world.in_scope(db, name_it("patient"))

        world.at_once(slow, cancelled, patient)

    world.play(story)
    assert world.items() == ["slow", "patient"]


ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000000000)"
    " SELECT max(i) FROM n"
)


@pytest.mark.worlds(places=["scope"], drivers=lambda driver: driver == "aiosqlite")
def test_a_statement_that_begins_when_it_is_cancelled_already_is_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt that comes before it does nothing, and it would keep the lock."""
    begins, goes_on = threading.Event(), threading.Event()
    execute = pysqlite.Cursor.execute

    def late(cursor: pysqlite.Cursor, sql: str, *args: Any) -> Any:
        if sql == ENDLESS:
            begins.set()
            assert goes_on.wait(40)
        return execute(cursor, sql, *args)

    monkeypatch.setattr(pysqlite.Cursor, "execute", late)

    def work(db: Both) -> None:
        insert(db, "a")
        db.execute(text(ENDLESS))

    def story(db: Both) -> None:
        task = asyncio.create_task(greenlet_spawn(world.in_scope, db, work))
        until(world, begins.is_set)
        task.cancel()
        pause(world, 0.05)
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await_only(task)

    world.play(story)
    assert world.items() == []


def name_it(name: str) -> Callable[[Both], Item]:
    """Return a body that stores this name."""
    return lambda db: insert(db, name)


@SQLITE
def test_readers_never_wait_for_a_writer(world: World) -> None:
    """Decision 16: they see what was committed before; the writer here even waits for them."""
    world.look.execute("INSERT INTO item (name) VALUES ('before')")

    def story(db: Both) -> None:
        has_written, has_read = world.barrier(2), world.barrier(2)

        def write() -> None:
            with db.scope():
                insert(db, "a")
                has_written()
                has_read()

        def read() -> None:
            has_written()
            with db.scope(atomic=False):
                assert list(db.scalars(select(Item.name))) == ["before"]
            has_read()

        world.at_once(write, read)

    world.play(story)


@SQLITE
def test_another_process_is_waited_for_by_the_database(world: World) -> None:
    """Decision 16: `busy_timeout` is for those whom our queue does not know."""
    url = world.url + "?timeout=0.1"
    other = Both(type(world.database)(url, name="impatient"))

    def story(db: Both) -> None:
        world.look.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises((OperationalError, DatabaseUnavailable), match="locked"):
                world.in_scope(other, lambda db: insert(db, "a"))
        finally:
            world.look.execute("ROLLBACK")
        world.in_scope(other, lambda db: insert(db, "b"))
        other.dispose()

    world.play(story)
    assert world.items() == ["b"]


@pytest.mark.parametrize(("query", "seconds"), [("", BUSY_TIMEOUT), ("?timeout=0.5", None)])
def test_a_timeout_in_the_url_is_the_drivers(
    impatient: None, query: str, seconds: float | None
) -> None:
    """What SQLAlchemy takes from the URL is not given in another way as well, which would win."""
    options = recipe.engine_options(make_url(f"sqlite:///a.db{query}"), is_async=False)
    assert options["connect_args"].get("timeout") == seconds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_file_that_may_only_be_read_opens(tmp_path: Path, kind: str, journal: str) -> None:
    """`mode=ro`: its journal stays as it is, and a write is the database's error."""
    path = tmp_path / "test.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute(f"PRAGMA journal_mode={journal}")
        made.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
        made.execute("INSERT INTO item (name) VALUES ('a')")
        made.commit()

    def story(db: Both) -> None:
        for mode in ({}, {"atomic": False}, {"readonly": True}):
            with db.scope(**mode):
                assert db.scalar(select(Item.name)) == "a"
        with pytest.raises(OperationalError, match="readonly"), db.scope():
            insert(db, "b")

    play(kind, f"sqlite+{NAMES[kind]}:///file:{path}?mode=ro&uri=true", story)


def test_a_driver_of_somebody_else_keeps_its_own_connections() -> None:
    """Ours are of the standard library: what SQLCipher is to encrypt they write as it is."""
    foreign = recipe.engine_options(make_url("sqlite+pysqlcipher://:secret@/a.db"), is_async=False)
    assert "factory" not in foreign["connect_args"]
    usual = recipe.engine_options(make_url("sqlite:///a.db"), is_async=False)
    assert usual["connect_args"]["factory"] is pysqlite.Connection
