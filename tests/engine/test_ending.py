"""The end of a connection of SQLite: once, in whatever order, and from whatever thread."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from dbscope.sqlite_inline import files, pysqlite
from dbscope.sqlite_inline.queue import Queue, shared
from tests.support.ending import ENDLESS, STATES, chosen

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("pairs", ["some", pytest.param("all", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("driver", "state"),
    [("inline", state.__name__) for state in STATES]
    + [("aiosqlite", state.__name__) for state in STATES if state.__name__ != "waiting"],
)
def test_two_ends_leave_the_process_alive_and_nothing_held(
    driver: str, state: str, pairs: str, tmp_path: Path
) -> None:
    """Pairs of ways to end, in turn and at once; the turn to write and the lock are free."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.ending"]
    done = subprocess.run(
        [*command, driver, state, str(tmp_path / "a.db"), *({"all"} & {pairs})],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout.splitlines()
    assert (done.returncode, said[-1:]) == (0, ["held"]), said[-1:] + done.stderr.splitlines()[-9:]
    assert len(said) == 2 * len(chosen(state, everything=pairs == "all")) + 1


@pytest.mark.parametrize("way", ["close", "interrupt"])
def test_a_plain_connection_may_be_ended_in_another_thread(way: str, tmp_path: Path) -> None:
    """The statement that runs is ended first, and says so."""
    made = sqlite3.connect(tmp_path / "a.db", check_same_thread=False, factory=pysqlite.Connection)
    begun = threading.Event()
    made.create_function("begun", 0, lambda: begun.set() or 1)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            made.execute(ENDLESS.replace("n + 1", "n + begun()")).fetchall()
        except sqlite3.OperationalError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(60)
    getattr(made, way)()
    thread.join(60)
    assert [str(error) for error in errors] == ["interrupted"]
    made.close()
    made.close()


@pytest.mark.parametrize("driver", ["inline", "plain"])
def test_a_statement_cannot_close_its_own_connection(driver: str) -> None:
    """Python would end by a segmentation fault; it is an error, and the connection goes on."""

    async def inline() -> None:
        engine = create_async_engine("sqlite+inline:///:memory:")
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            dbapi: Any = raw.dbapi_connection
            await greenlet_spawn(run, dbapi, dbapi.driver_connection)
        await engine.dispose()

    def run(connection: Any, driver: Any) -> None:
        errors: list[BaseException] = []

        def end() -> None:
            try:
                driver.close()
            except sqlite3.ProgrammingError as error:
                errors.append(error)

        connection.create_function("end", 0, end)
        connection.execute('SELECT "end"()').fetchall()
        assert [str(error) for error in errors] == ["A statement cannot close its own connection."]

    if driver == "inline":
        asyncio.run(inline())
    else:
        made = sqlite3.connect(":memory:", factory=pysqlite.Connection)
        run(made, made)
        made.close()


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_write_on_a_closed_connection_gives_the_turn_back(tmp_path: Path, by_hand: bool) -> None:
    """It fails, and the next one writes at once."""

    async def story() -> None:
        engine = create_async_engine(f"sqlite+inline:///{tmp_path / 'a.db'}")
        async with engine.begin() as connection:
            await connection.exec_driver_sql("CREATE TABLE item (id int)")
        raw = await engine.raw_connection()
        dbapi: Any = raw.dbapi_connection
        await greenlet_spawn((dbapi.driver_connection if by_hand else dbapi).close)
        for call in (dbapi.execute, dbapi.executescript):
            with pytest.raises(sqlite3.ProgrammingError, match="closed"):
                await greenlet_spawn(call, "INSERT INTO item VALUES (1)")
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            await greenlet_spawn(dbapi.commit)
        await greenlet_spawn(dbapi.rollback)
        assert shared(Queue[Any], files.MEMORY, str(tmp_path / "a.db")).writer is None
        async with engine.begin() as connection:
            await connection.exec_driver_sql("INSERT INTO item VALUES (1)")
        raw.invalidate()
        await engine.dispose()

    asyncio.run(story())


def test_who_waited_in_a_loop_that_is_closed_is_passed_over(tmp_path: Path) -> None:
    """Its turn would never be used, nor given back."""
    url = f"sqlite+inline:///{tmp_path / 'a.db'}"
    first, second = create_async_engine(url), create_async_engine(url)
    loops = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def write(engine: Any) -> Any:
        connection = await engine.connect()
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
        return connection

    holder = loops[0].run_until_complete(write(first))
    waiter = loops[1].create_task(write(second))
    loops[1].run_until_complete(asyncio.sleep(0.1))
    loops[1].close()
    loops[0].run_until_complete(holder.close())
    loops[0].run_until_complete(loops[0].run_until_complete(write(first)).close())
    loops[0].run_until_complete(first.dispose())
    loops[0].close()
    waiter._log_destroy_pending = False  # type: ignore[attr-defined]
