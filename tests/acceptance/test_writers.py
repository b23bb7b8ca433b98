"""R17: SQLite with 16 writers at once, which read before they write; and what it rolls back."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import select, text

from dbscope import AsyncDatabase, Database, Rollback
from tests.acceptance.application import Base, Row
from tests.support.look import Onlooker

WRITERS = 16
PER_TRANSACTION = 0.002  # seconds, alone on its machine


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A file with one row, whose number is counted up."""
    url = f"sqlite:///{tmp_path / 'writers.db'}"
    db = Database(url)
    db.ensure_schema(Base.metadata)
    with db.scope():
        db.session.add(Row(id=1))
    db.dispose()
    return url


def check(url: str, wanted: int, start: float) -> str:
    """Every update is there; the write lock is free."""
    seconds = time.perf_counter() - start
    with Onlooker(url) as look:
        assert look.scalar("SELECT n FROM fault_row WHERE id = 1") == wanted
        assert look.write_lock_is_free()
    return f"{wanted} updates by {WRITERS}: 0 locked, 0 lost, {1000 * seconds / wanted:.2f} ms each"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("driver", ["inline", "aiosqlite"])
def test_sixteen_tasks_read_and_write_and_lose_nothing(path, driver, times, figures):
    """R17: read-modify-write by 16 tasks: nobody is locked out, no update is lost."""
    db, each = AsyncDatabase(path.replace("sqlite", f"sqlite+{driver}", 1)), times(25, 250)

    async def writer() -> None:
        for _ in range(each):
            async with db.scope():
                row = await db.get_by_pk(Row, 1)
                await asyncio.sleep(0)
                row.n += 1

    async def main() -> None:
        await asyncio.gather(*[writer() for _ in range(WRITERS)])
        assert db.stats()["pool_checked_out"] == 0
        await db.dispose()

    start = time.perf_counter()
    asyncio.run(main())
    figures(f"R17 async: {check(path, WRITERS * each, start)}")


@pytest.mark.timeout(180)
def test_sixteen_threads_read_and_write_and_lose_nothing(path, times, figures):
    """R17: the same by 16 threads and `Database`."""
    db, each, errors = Database(path, engine_options={"pool_size": WRITERS}), times(25, 250), []

    def writer() -> None:
        try:
            for _ in range(each):
                with db.scope():
                    db.get_by_pk(Row, 1).n += 1
        except BaseException as error:
            errors.append(error)

    start = time.perf_counter()
    threads = [threading.Thread(target=writer) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    db.dispose()
    figures(f"R17 sync: {check(path, WRITERS * each, start)}")


def test_a_savepoint_and_a_table_are_rolled_back(path, times, figures):
    """R17: ROLLBACK TO takes back what was in the savepoint, ROLLBACK the CREATE TABLE, too."""
    db, rounds = Database(path), times(20, 200)
    for i in range(10, 10 + rounds):
        with db.scope():
            with db.atomic():
                db.session.add(Row(id=i))
            with db.atomic():
                db.session.add(Row(id=10_000 + i))
                db.session.flush()
                raise Rollback
    for _ in range(rounds):
        with db.scope():
            db.execute(text("CREATE TABLE half (id INTEGER)"))
            db.execute(text("INSERT INTO half VALUES (1)"))
            raise Rollback
    with db.scope():
        kept = db.scalars(select(Row.id).where(Row.id > 1).order_by(Row.id)).all()
    db.dispose()
    assert kept == list(range(10, 10 + rounds))
    with Onlooker(path) as look:
        assert look.rows("SELECT name FROM sqlite_master WHERE name = 'half'") == []
    figures(f"R17 {rounds} savepoints and {rounds} CREATE TABLE rolled back: 0 left")
