"""`sqlite+inline`: short statements on the event loop, long ones in a thread, and nobody waits."""

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, event, text
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dbscope import AsyncDatabase
from dbscope.sqlite_inline import calls, checkpoint
from dbscope.sqlite_inline.connection import InlineConnection
from tests.scopes.stage import eventually

pytestmark = pytest.mark.anyio

LONG = """
    WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {})
    SELECT count(*), here() FROM c
"""
ENDLESS = LONG.format(10**9)
OTHER_PROCESS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("has it", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""
Make = Callable[..., AsyncEngine]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Make engines on a file, disposed of after the test; `here()` tells who runs it."""
    async with AsyncExitStack() as stack:

        def make(database: str = str(tmp_path / "a.db"), **options: Any) -> AsyncEngine:
            engine = create_async_engine(URL.create("sqlite+inline", database=database), **options)
            event.listen(engine.sync_engine, "connect", prepare)
            stack.push_async_callback(engine.dispose)
            return engine

        yield make


def prepare(connection: Any, record: Any) -> None:
    """Set a connection up as the library does."""
    connection.create_function("here", 0, threading.get_ident)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


@pytest.fixture
async def engine(make: Make) -> AsyncEngine:
    """Return an engine whose database has tables."""
    made = make()
    async with made.begin() as connection:
        await connection.exec_driver_sql(
            "CREATE TABLE item (id integer PRIMARY KEY, name text UNIQUE, thread int)"
        )
        await connection.exec_driver_sql(
            "CREATE TABLE child (item_id int REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)"
        )
    return made


INSERT = "INSERT INTO item (name, thread) VALUES (?, here())"
ON_THE_LOOP = threading.get_ident


async def add(connection: AsyncConnection, name: str) -> None:
    """Store an item."""
    await connection.exec_driver_sql(INSERT, (name,))


async def names(engine: AsyncEngine) -> list[str]:
    """Return what is stored."""
    async with engine.connect() as connection:
        result = await connection.exec_driver_sql("SELECT name FROM item ORDER BY id")
        return list(result.scalars())


async def threads_of(engine: AsyncEngine) -> set[int]:
    """Return who has written what is stored."""
    async with engine.connect() as connection:
        return set((await connection.exec_driver_sql("SELECT thread FROM item")).scalars())


@asynccontextmanager
async def held_elsewhere(path: str | None) -> AsyncIterator[Callable[[], None]]:
    """Let another process hold the lock to write, until the function is called."""
    command = [sys.executable, "-c", OTHER_PROCESS, str(path)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield process.stdin.close
    finally:
        process.stdin.close()
        await process.wait()


# -- where a statement runs ------------------------------------------------------------------------


async def test_short_statements_run_on_the_loop(engine: AsyncEngine) -> None:
    """Reads, writes, savepoints and COMMIT."""
    async with engine.begin() as connection:
        assert await connection.scalar(text("SELECT here()")) == ON_THE_LOOP()
        async with connection.begin_nested():
            await add(connection, "a")
    assert await threads_of(engine) == {ON_THE_LOOP()}


async def test_a_read_that_takes_too_long_is_run_again_in_a_thread(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found out is remembered; a text that has become fast comes back to the loop."""
    known = engine.sync_engine.dialect.dbapi.statements  # type: ignore[union-attr]
    async with engine.connect() as connection:
        for _ in range(2):
            rows, thread = (await connection.exec_driver_sql(LONG.format(300_000))).one()
            assert (rows, thread != ON_THE_LOOP()) == (300_000, True)
        assert known.slow == {LONG.format(300_000)}
        sql = LONG.format("?")
        await connection.exec_driver_sql(sql, (300_000,))
        assert sql in known.slow
        monkeypatch.setattr("dbscope.sqlite_inline.connection.BUDGET", 60)  # what fast means
        monkeypatch.setattr(calls, "BUDGET", 60)
        await connection.exec_driver_sql(sql, (1,))
        assert (await connection.exec_driver_sql(sql, (1,))).one() == (1, ON_THE_LOOP())


async def test_a_read_that_was_ended_leaves_its_transaction(engine: AsyncEngine) -> None:
    """Only an interrupted write takes its transaction with it."""
    async with engine.begin() as connection:
        await add(connection, "a")
        async with connection.begin_nested():
            await add(connection, "b")
            await connection.exec_driver_sql(LONG.format(300_000))
    assert await names(engine) == ["a", "b"]


async def test_long_writes_run_in_a_thread(engine: AsyncEngine) -> None:
    """Many rows, large values, and what goes through rows; the COMMIT of these, too."""
    many = [(str(number),) for number in range(1000)]
    async with engine.begin() as connection:
        await connection.exec_driver_sql(INSERT, many)
    assert ON_THE_LOOP() not in await threads_of(engine)
    for sql, parameters in [
        ("UPDATE item SET thread = here()", ()),
        ("UPDATE item SET thread = here() WHERE thread < ?", (ON_THE_LOOP(),)),
        ("INSERT INTO item (name, thread) VALUES (?, here())", ("x" * 10**6,)),
        ("CREATE TABLE other AS SELECT here() AS thread", ()),
    ]:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(sql, parameters)
    assert ON_THE_LOOP() not in await threads_of(engine)


async def test_few_sets_of_parameters_stay_on_the_loop(engine: AsyncEngine) -> None:
    """`executemany` of some rows is what the ORM does all the time."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql(INSERT, [("a",), ("b",)])
    assert await threads_of(engine) == {ON_THE_LOOP()}


async def test_what_one_thread_has_run_disturbs_no_other(engine: AsyncEngine) -> None:
    """A cursor that is collected resets its statement, which another may have by then."""
    async with engine.begin() as connection:
        for start in range(0, 60_000, 300):
            rows = [(str(number),) for number in range(start, start + 300)]
            await connection.exec_driver_sql("INSERT INTO item (name) VALUES (?)", rows)
    assert len(await names(engine)) == 60_000


async def test_a_commit_that_waits_for_the_disk_has_a_thread(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With synchronous = FULL, and without a log; asked again when that is changed."""
    seen: list[Any] = []
    to_the_end = calls.Calls.to_the_end
    monkeypatch.setattr(
        calls.Calls, "to_the_end", lambda self, call: seen.append(call) or to_the_end(self, call)
    )
    for number, (setting, in_thread) in enumerate(
        [
            ("synchronous = FULL", 1),
            ("synchronous = NORMAL", 0),
            ("journal_mode = DELETE", 1),
            ("journal_mode = WAL", 0),
        ]
    ):
        seen.clear()
        async with engine.connect() as connection:
            await connection.exec_driver_sql(f"PRAGMA {setting}")
            await add(connection, str(number))
            await connection.commit()
            assert len(seen) == in_thread, setting
            await connection.scalar(text("SELECT 1"))
            await connection.commit()
            assert len(seen) == in_thread, "nothing was written"


async def test_checkpoints_are_done_in_a_thread(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log begins anew when it is as long as SQLite lets it become; no COMMIT does it."""
    monkeypatch.setattr(checkpoint, "COMMITS", 20)
    done: list[int] = []
    bring_home = checkpoint.bring_home

    def noted(connection: sqlite3.Connection) -> None:
        done.append(threading.get_ident())
        bring_home(connection)

    monkeypatch.setattr(checkpoint, "bring_home", noted)

    async def write(rows: int) -> None:
        async with engine.connect() as connection:
            for _ in range(rows):
                await connection.exec_driver_sql(INSERT, (f"{next(numbers)} {'x' * 60_000}",))
                await connection.commit()
            inline = (await connection.get_raw_connection()).dbapi_connection
            assert isinstance(inline, InlineConnection)
            await eventually(lambda: not inline.commits.logs[0].is_running)

    def size() -> int:
        return Path(f"{engine.url.database}-wal").stat().st_size

    numbers = count()
    for _ in range(10):  # each time to the end of the checkpoint, however long that takes
        await write(20)
    assert done
    assert ON_THE_LOOP() not in done
    sizes = [0]
    while len(sizes) < 10 and sizes[-1] not in sizes[:-1]:
        await write(20)
        sizes.append(await asyncio.to_thread(size))
    assert sizes[-1] == sizes[-2], "the log never began anew"


async def test_a_task_of_many_statements_leaves_the_others_their_turns(engine: AsyncEngine) -> None:
    """A statement that is answered on the spot waits for nothing."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    async with engine.connect() as connection:
        for _ in range(2000):
            await connection.exec_driver_sql("SELECT 1")
    task.cancel()
    assert turns > 20


# -- locks -----------------------------------------------------------------------------------------


async def test_writers_of_a_process_write_in_the_order_in_which_they_came(
    make: Make, engine: AsyncEngine
) -> None:
    """Of all engines on the file; who gave up is passed over."""
    engines, order = [engine, make()], list[int]()

    async def write(number: int, connection: AsyncConnection) -> None:
        await add(connection, str(number))
        order.append(number)
        await asyncio.sleep(0.005)
        await connection.commit()

    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(engines[n % 2].connect()) for n in range(8)]
        tasks = [asyncio.create_task(write(*each)) for each in enumerate(opened)]
        await asyncio.sleep(0.002)
        tasks[5].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 1, 2, 3, 4, 6, 7]
    assert await names(engine) == [str(number) for number in order]


async def test_who_waits_too_long_is_told_who_writes(make: Make, engine: AsyncEngine) -> None:
    """Its task, and the line where that is now; SQLite's own code stays."""
    hasty = make(connect_args={"timeout": 0.05})
    async with hasty.connect() as connection:
        await connection.exec_driver_sql("SELECT 1")
    go = asyncio.Event()

    async def slow() -> None:
        async with engine.begin() as connection:
            await add(connection, "slow")
            go.set()
            await done.wait()

    done = asyncio.Event()
    task = asyncio.create_task(slow(), name="the slow one")
    await go.wait()
    with pytest.raises(OperationalError, match=rf"the slow one' at {__file__}:\d+") as caught:
        async with hasty.begin() as connection:
            await add(connection, "hasty")
    assert caught.value.orig.sqlite_errorname == "SQLITE_BUSY"  # type: ignore[union-attr]
    done.set()
    await task
    assert await names(engine) == ["slow"]


async def test_another_process_is_waited_for(make: Make, engine: AsyncEngine) -> None:
    """Without blocking the loop, by asking again."""
    patient, turns = make(connect_args={"timeout": 60}), 0
    async with held_elsewhere(engine.url.database) as release:

        async def write() -> None:
            async with patient.begin() as connection:
                await add(connection, "a")

        task = asyncio.create_task(write())
        while turns < 50:
            await asyncio.sleep(0.001)
            turns += 1
            assert not task.done()
        assert await names(engine) == []
        release()
        await task
    assert await names(engine) == ["a"]


async def test_another_process_is_waited_for_only_so_long(make: Make, engine: AsyncEngine) -> None:
    """`timeout` and PRAGMA busy_timeout say how long; then the connection is as good as before."""
    hasty = make(connect_args={"timeout": 0.02})
    async with held_elsewhere(engine.url.database), hasty.connect() as connection:
        assert await connection.scalar(text("PRAGMA busy_timeout")) == 20
        with pytest.raises(OperationalError, match="database is locked") as caught:
            await add(connection, "a")
        assert caught.value.orig.sqlite_errorcode == sqlite3.SQLITE_BUSY  # type: ignore[union-attr]
        await connection.rollback()
        await connection.exec_driver_sql("/* shorter */ PRAGMA main.busy_timeout = 5")
        assert await connection.scalar(text("PRAGMA busy_timeout")) == 5
        with pytest.raises(OperationalError, match="database is locked"):
            await add(connection, "b")
    async with hasty.begin() as connection:
        await add(connection, "c")
    assert await names(engine) == ["c"]


async def test_a_begin_that_failed_is_tried_again_with_the_next_statement(
    make: Make, engine: AsyncEngine
) -> None:
    """What comes after a refused BEGIN is not stored by itself, outside of the transaction."""
    hasty = make(connect_args={"timeout": 0})
    async with hasty.connect() as connection:
        async with held_elsewhere(engine.url.database):
            with pytest.raises(OperationalError, match="locked"):
                await add(connection, "a")
        await add(connection, "b")
        await connection.rollback()
    assert await names(engine) == []


async def test_a_read_that_is_out_of_date_cannot_write(make: Make, engine: AsyncEngine) -> None:
    """At once: waiting would not help (https://sqlite.org/rescode.html#busy_snapshot)."""
    async with engine.connect() as reader:
        await reader.exec_driver_sql("SELECT * FROM item")
        async with engine.begin() as writer:
            await add(writer, "a")
        with pytest.raises(OperationalError) as caught:
            await add(reader, "b")
    assert caught.value.orig.sqlite_errorname == "SQLITE_BUSY_SNAPSHOT"  # type: ignore[union-attr]
    assert await names(engine) == ["a"]


# -- cancellation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["task", "scope"])
async def test_a_cancelled_statement_has_ended_and_holds_nothing(
    engine: AsyncEngine, how: str
) -> None:
    """In a thread it is interrupted and waited for; the lock is free, and nothing is stored."""
    started = asyncio.Event()

    async def work() -> None:
        async with engine.begin() as connection:
            await add(connection, "a")
            started.set()
            await connection.exec_driver_sql(ENDLESS)

    if how == "task":
        task = asyncio.create_task(work())
        await started.wait()
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        with anyio.move_on_after(0.05) as scope:
            await work()
        assert scope.cancelled_caught
    with sqlite3.connect(str(engine.url.database), timeout=0) as other:
        other.execute("BEGIN IMMEDIATE").execute("ROLLBACK")
    other.close()
    assert await names(engine) == []


async def test_a_cancelled_wait_for_a_lock_holds_nothing(engine: AsyncEngine) -> None:
    """Neither in the queue of this process nor while another is asked again."""
    async with held_elsewhere(engine.url.database):
        for _ in range(2):
            with anyio.move_on_after(0.02):
                async with engine.begin() as connection:
                    await add(connection, "a")
    async with engine.begin() as connection:
        await add(connection, "b")
    assert await names(engine) == ["b"]


async def test_a_commit_in_a_thread_is_whole(engine: AsyncEngine) -> None:
    """Whoever is cancelled in it learns so when it is done."""
    rows = [(str(number),) for number in range(20_000)]
    async with engine.connect() as connection:
        await connection.exec_driver_sql(INSERT, rows)
        task = asyncio.create_task(connection.commit())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(await names(engine)) in (0, len(rows))


def test_an_engine_serves_one_loop_after_another(tmp_path: Path) -> None:
    """Its connections belong to none, and neither does the queue of its pool."""
    engine = create_async_engine(
        f"sqlite+inline:///{tmp_path / 'a.db'}", pool_size=1, max_overflow=0
    )
    event.listen(engine.sync_engine, "connect", prepare)

    async def crowd() -> list[int]:
        async def one() -> int:
            async with engine.connect() as connection:
                await connection.exec_driver_sql(LONG.format(50_000))
                await asyncio.sleep(0)
                return int(await connection.scalar(text("SELECT 7")) or 0)

        return await asyncio.gather(*(one() for _ in range(5)))

    for _ in range(3):
        assert asyncio.run(crowd()) == [7] * 5
    asyncio.run(engine.dispose())


def test_a_cancelled_query_does_not_keep_the_program_from_ending(tmp_path: Path) -> None:
    """aiosqlite waits for its worker, which waits for the query."""
    code = f"""
import anyio
from sqlalchemy.ext.asyncio import create_async_engine
import dbscope.sqlite_inline
async def main():
    engine = create_async_engine("sqlite+inline:///{tmp_path / "a.db"}")
    with anyio.move_on_after(0.05):
        async with engine.connect() as connection:
            await connection.exec_driver_sql({ENDLESS.replace(", here()", "")!r})
    async with engine.connect() as connection:
        print((await connection.exec_driver_sql("SELECT 7")).scalar())
    await engine.dispose()
anyio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("7\n", "", 0)


def drop(held: list[AsyncConnection]) -> None:
    """Forget them, and have them collected."""
    held.clear()
    gc.collect()


async def test_a_connection_that_nobody_gave_back_is_closed(engine: AsyncEngine) -> None:
    """By the garbage collector, in a thread; its lock is free afterwards."""
    held = [await engine.connect()]
    await add(held[0], "a")
    with pytest.warns(match="garbage collector"):
        drop(held)
    async with engine.begin() as another:
        await add(another, "b")
    assert await names(engine) == ["b"]


# -- all that sqlite3 has --------------------------------------------------------------------------


async def test_rows_that_are_streamed_come_from_a_thread(engine: AsyncEngine) -> None:
    """As they are asked for; a stream that was left ends with its connection."""
    async with engine.connect() as connection:
        result = await connection.stream(text(LONG.format(1) + " UNION ALL SELECT 2, here()"))
        rows = [row async for row in result]
        assert [number for number, _ in rows] == [1, 2]
        assert ON_THE_LOOP() not in {thread for _, thread in rows}
        endless = LONG.replace("count(*), here()", "n").format(10**9)
        left = await connection.stream(text(endless))
        assert await left.fetchone() == (1,)
        assert await left.fetchmany(3) == [(2,), (3,), (4,)]


async def test_databases_in_memory_are_shared_by_the_connections_of_an_engine(make: Make) -> None:
    """And by nobody else."""
    memory, another = make(":memory:"), make(":memory:")
    async with memory.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE item (name)")
        await connection.exec_driver_sql("INSERT INTO item VALUES ('a')")
    async with memory.connect() as one, memory.connect() as two:
        for connection in (one, two):
            assert await connection.scalar(text("SELECT name FROM item")) == "a"
    async with another.connect() as connection:
        with pytest.raises(OperationalError, match="no such table"):
            await connection.exec_driver_sql("SELECT * FROM item")


async def test_a_uri_may_name_a_database_in_memory(make: Make) -> None:
    """SQLite's shared cache, which has a name for others, too."""
    query = {"mode": "memory", "cache": "shared", "uri": "true"}
    url = URL.create("sqlite+inline", database="file:shared", query=query)
    one, two = create_async_engine(url), create_async_engine(url)
    async with one.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE item (name)")
    async with two.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM item")) == 0
    await one.dispose()
    await two.dispose()


@pytest.mark.parametrize("option", [{"mode": "ro"}, {"immutable": "1"}])
async def test_a_file_may_be_opened_for_reading_only(
    engine: AsyncEngine, option: dict[str, str]
) -> None:
    """By SQLite's own options (https://sqlite.org/uri.html)."""
    async with engine.begin() as connection:
        await add(connection, "a")
    await engine.dispose()
    url = engine.url.set(database=f"file:{engine.url.database}", query={**option, "uri": "true"})
    reader = create_async_engine(url)
    async with reader.connect() as connection:
        assert await connection.scalar(text("SELECT name FROM item")) == "a"
        with pytest.raises(OperationalError, match="readonly"):
            await connection.exec_driver_sql("DELETE FROM item WHERE id = 1")
    await reader.dispose()


async def test_a_file_that_is_no_database_is_told(make: Make, tmp_path: Path) -> None:
    """Also a folder that is not there."""
    (tmp_path / "text").write_text("something else" * 100)
    with pytest.raises(DatabaseError, match="not a database"):
        await names(make(str(tmp_path / "text")))
    with pytest.raises(OperationalError, match="unable to open"):
        await names(make(str(tmp_path / "missing" / "a.db")))


async def test_functions_collations_and_other_files(engine: AsyncEngine, tmp_path: Path) -> None:
    """What `sqlite3` offers, by the connection of the event, as with any driver."""

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        connection.create_function("twice", 1, lambda value: value * 2)
        connection.create_collation("backwards", lambda a, b: (a < b) - (a > b))
        connection.execute(f"ATTACH '{tmp_path / 'b.db'}' AS b")

    await engine.dispose()
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE b.other (name)")
        await connection.exec_driver_sql("INSERT INTO b.other VALUES (twice('a')), ('b')")
    async with engine.connect() as connection:
        sql = "SELECT name FROM b.other ORDER BY name COLLATE backwards"
        assert list((await connection.exec_driver_sql(sql)).scalars()) == ["b", "aa"]
        assert await connection.scalar(text("SELECT 'abc' REGEXP '^a'")) == 1


async def test_a_handler_of_the_users_is_called_besides_ours(engine: AsyncEngine) -> None:
    """SQLite has room for one; in a thread it is called, too."""
    seen: list[int] = []
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        inline = raw.dbapi_connection
        assert isinstance(inline, InlineConnection)
        inline.set_progress_handler(lambda: seen.append(threading.get_ident()), 1000)
        await connection.exec_driver_sql(LONG.format(300_000))
        assert seen[-1] != ON_THE_LOOP()
        inline.set_progress_handler(lambda: 1, 1000)
        with pytest.raises(OperationalError, match="interrupted"):
            await connection.exec_driver_sql(LONG.format(300_000))


async def test_transactions_by_hand_and_by_the_recipe_of_sqlalchemy(engine: AsyncEngine) -> None:
    """BEGIN, COMMIT and ROLLBACK as statements; a listener that sends BEGIN."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        for last in ("COMMIT", "ROLLBACK"):
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
            await add(connection, last)
            await connection.exec_driver_sql(last)
        with pytest.raises(OperationalError, match="no transaction"):
            await connection.exec_driver_sql("COMMIT")
    event.listen(engine.sync_engine, "begin", lambda each: each.exec_driver_sql("BEGIN"))
    async with engine.connect() as connection:
        await add(connection, "rolled back")
        await connection.rollback()
    assert await names(engine) == ["COMMIT"]


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
async def test_a_savepoint_alone_is_a_transaction(engine: AsyncEngine, synchronous: str) -> None:
    """RELEASE stores what was written, and lets the next one write."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql(f"PRAGMA synchronous = {synchronous}")
        for sql in ("SAVEPOINT a", "INSERT INTO item (name) VALUES ('a')", "RELEASE a"):
            await connection.exec_driver_sql(sql)
        async with engine.begin() as another:
            await add(another, "b")
    assert await names(engine) == ["a", "b"]


async def test_what_belongs_to_no_transaction_begins_none(engine: AsyncEngine) -> None:
    """VACUUM and ATTACH would be refused inside of one."""
    async with engine.connect() as connection:
        await connection.exec_driver_sql("ATTACH ':memory:' AS other")
        await connection.exec_driver_sql("VACUUM")
        raw = await connection.get_raw_connection()
        assert not raw.driver_connection.in_transaction  # type: ignore[union-attr]


async def test_a_commit_that_is_refused_leaves_the_transaction_open(engine: AsyncEngine) -> None:
    """As SQLite does; ROLLBACK ends it, and lets the next one write."""
    async with engine.connect() as connection:
        await connection.exec_driver_sql("INSERT INTO child VALUES (999)")
        with pytest.raises(IntegrityError):
            await connection.commit()
        raw = await connection.get_raw_connection()
        raw.rollback()
        assert raw.dbapi_connection.writer.queue.writer is None  # type: ignore[union-attr]
    async with engine.begin() as connection:
        await add(connection, "a")


async def test_large_parameters_and_results_are_whole(engine: AsyncEngine) -> None:
    """Whatever thread they have gone through."""
    async with engine.begin() as connection:
        await add(connection, "x" * 3_000_000)
        await connection.exec_driver_sql(INSERT, [(str(number),) for number in range(5_000)])
    found = await names(engine)
    assert (len(found), len(found[0])) == (5_001, 3_000_000)


async def test_a_connection_of_somebody_elses_making_is_ours_too(engine: AsyncEngine) -> None:
    """By `async_creator`: it neither waits for a lock on the loop, nor does checkpoints there."""

    async def creator() -> sqlite3.Connection:
        return sqlite3.connect(str(engine.url.database), timeout=60, check_same_thread=False)

    other = create_async_engine("sqlite+inline://", async_creator=creator)
    async with other.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert isinstance(raw, sqlite3.Connection)
        assert raw.execute("PRAGMA busy_timeout").fetchone() == (0,)
        assert raw.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        await connection.exec_driver_sql("INSERT INTO item (name) VALUES ('a')")
        await connection.rollback()
    assert await names(engine) == []
    await other.dispose()


async def test_streams_leave_what_is_known_about_commits(engine: AsyncEngine) -> None:
    """It is asked anew only after something that may have changed it."""
    asked: list[str] = []
    async with engine.connect() as connection:
        await add(connection, "a")
        await connection.commit()
        raw = (await connection.get_raw_connection()).driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.set_trace_callback(asked.append)
        await (await connection.stream(text("SELECT name FROM item"))).close()
        await add(connection, "b")
        await connection.commit()
        raw.set_trace_callback(None)
    assert [sql for sql in asked if sql.startswith("PRAGMA")] == []


# -- tools that look on ----------------------------------------------------------------------------


class Looking:
    """What a tool makes of a connection or a cursor: it says that it is one, and looks on."""

    def __init__(self, wrapped: Any, seen: list[str]) -> None:
        self.__dict__.update(__wrapped__=wrapped, seen=seen)

    @property
    def __class__(self) -> Any:
        return type(self.__wrapped__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, value)

    def cursor(self, *args: Any) -> "Looking":
        return Looking(self.__wrapped__.cursor(*args), self.seen)

    def execute(self, sql: str, *args: Any) -> Any:
        self.seen.append(sql)
        return self.__wrapped__.execute(sql, *args)


async def test_a_tool_that_wraps_connections_sees_each_statement_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Datadog, New Relic and OpenTelemetry do; our questions about a statement are none of it."""
    seen: list[str] = []
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **kwargs: Looking(connect(*args, **kwargs), seen)
    )
    db = AsyncDatabase(f"sqlite+inline:///{tmp_path}/looked.db")
    async with db.scope():
        await db.execute(text("CREATE TABLE seen (id integer)"))
        await db.execute(text("INSERT INTO seen VALUES (1)"))
    async with db.scope(readonly=True):
        assert await db.scalar(text("SELECT id FROM seen")) == 1
    await db.dispose()
    assert [sql for sql in seen if "seen" in sql] == [
        "CREATE TABLE seen (id integer)",
        "INSERT INTO seen VALUES (1)",
        "SELECT id FROM seen",
    ]
    assert caplog.messages == []
