"""What stalls the event loop: `python -m tests.acceptance.stalls FILE WHAT SIZE COUNT`.

A ticker of one millisecond runs in the loop in which SQLite has long work to do, or must wait. How
late its ticks came is printed as JSON, in milliseconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

from dbscope import AsyncDatabase
from tests.acceptance.application import SLOW_SQLITE, Base, Row

TICK = 0.001  # seconds
TASKS = 10
MEGABYTE = 1024 * 1024
STEPS = 5_000_000  # of the slow query, in about a second


class Stalls:
    """A ticker in this loop, how late each of its ticks was, and how long the work took.

    Args:
        file: the path of the database.
        size: of one piece of work.
        count: of the pieces.
    """

    def __init__(self, file: str, size: float, count: int) -> None:
        self.file = file
        self.size = size
        self.count = count
        self.db = AsyncDatabase(f"sqlite:///{file}")
        self.late: list[float] = []
        self.work: list[float] = []
        self.within: list[int] = []  # ticks, of each piece

    @asynccontextmanager
    async def ticking(self) -> AsyncIterator[None]:
        """Tick meanwhile, and once more."""
        gc.collect()
        gc.freeze()
        ticker = asyncio.create_task(self._tick())
        await asyncio.sleep(0)
        yield
        await asyncio.sleep(2 * TICK)
        ticker.cancel()

    async def _tick(self) -> None:
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            self.late.append(time.perf_counter() - due)

    @asynccontextmanager
    async def piece(self) -> AsyncIterator[None]:
        """Be one piece of the work, in a scope."""
        start, ticks = time.perf_counter(), len(self.late)
        async with self.db.scope():
            yield
        self.work.append(time.perf_counter() - start)
        self.within.append(len(self.late) - ticks)

    def figures(self, done: int) -> dict[str, float]:
        """Return what is printed."""
        late = sorted(1000 * each for each in self.late)
        return {
            "done": done,
            "work": round(1000 * max(self.work), 1),
            "ticks": len(late),
            "within": min(self.within),
            "p50": round(late[len(late) // 2], 2),
            "p99.9": round(late[len(late) * 999 // 1000], 2),
            "max": round(late[-1], 2),
        }

    # -- the work ----------------------------------------------------------------------------------

    async def nothing(self) -> int:
        """Wait so many seconds: what the machine does to a loop by itself."""
        async with self.ticking():
            for _ in range(self.count):
                async with self.piece():
                    await asyncio.sleep(self.size)
        return self.count

    async def points(self) -> int:
        """Read and write one row after another, in ten tasks that never pause."""
        async with self.ticking():
            await asyncio.gather(*[self._count_up(number) for number in range(TASKS)])
        return await self._total()

    async def _count_up(self, number: int) -> None:
        for _ in range(self.count):
            async with self.db.scope(readonly=True):
                before = (await self.db.get_by_pk(Row, number)).n
            async with self.piece():
                (await self.db.get_by_pk(Row, number)).n = before + 1

    async def _total(self) -> int:
        async with self.db.scope(readonly=True):
            return await self.db.scalar(text("SELECT sum(n) FROM fault_row"))

    async def read(self) -> int:
        """Read what takes so many seconds."""
        done = 0
        async with self.ticking():
            for _ in range(self.count):
                async with self.piece():
                    steps = int(self.size * STEPS)
                    done += steps == await self.db.scalar(text(SLOW_SQLITE), {"n": steps})
        return done

    async def inserting(self) -> int:
        """Insert so many rows at once, and commit them."""
        size = int(self.size)
        pieces = [self._new_rows(size * i + TASKS, size) for i in range(self.count)]
        async with self.ticking():
            for rows in pieces:
                async with self.piece():
                    await self.db.session.execute(insert(Row), rows)
        return await self._total()

    def _new_rows(self, first: int, size: int) -> list[dict[str, int]]:
        return [{"id": number, "n": 1} for number in range(first, first + size)]

    async def checkpoint(self) -> int:
        """Write until a log of so many megabytes is in the file, and as much again."""
        before = size_of(self.file)
        for _ in range(self.count):
            with closing(fill_log(self.file, int(self.size))):
                async with self.ticking():
                    await self._count_up_all(await self._write_until_stored())
        return size_of(self.file) - before

    async def _write_until_stored(self) -> int:
        wanted, written = size_of(self.file) + self.size, 0
        while size_of(self.file) < wanted:
            await self._count_up_all(1)
            written += 1
        return written

    async def _count_up_all(self, times: int) -> None:
        for _ in range(times):
            for number in range(TASKS):
                async with self.piece():
                    (await self.db.get_by_pk(Row, number)).n += 1

    async def locked(self) -> int:
        """Write while another process has the lock for so many seconds."""
        loop = asyncio.get_running_loop()
        async with another_process(self.file) as other, self.ticking():
            for _ in range(self.count):
                other.stdin.write(b"now\n")
                assert await other.stdout.readline() == b"locked\n"
                async with self.piece():
                    loop.call_later(self.size, other.stdin.write, b"no longer\n")
                    (await self.db.get_by_pk(Row, 0)).n += 1
        return await self._total()


def size_of(file: str) -> int:
    """Return the size of a file, in megabytes."""
    return Path(file).stat().st_size // MEGABYTE


def fill_log(file: str, megabytes: int) -> sqlite3.Connection:
    """Write that much to the log; closing this stores nothing, as long as others are open."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("CREATE TABLE IF NOT EXISTS filler (content)")
    before = size_of(file)
    for _ in range(megabytes):
        connection.execute("INSERT INTO filler VALUES (zeroblob(?))", (MEGABYTE,))
    assert size_of(f"{file}-wal") >= megabytes
    assert size_of(file) == before
    return connection


@asynccontextmanager
async def another_process(file: str) -> AsyncIterator[Any]:
    """Have another process that takes the lock, and gives it back, whenever it is told to."""
    command = (sys.executable, "-m", "tests.acceptance.stalls", file, "hold", "0", "0")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    yield process
    process.stdin.close()
    assert await process.wait() == 0


def hold(file: str) -> None:
    """Be that process."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=60)) as connection:
        while sys.stdin.readline():
            connection.execute("BEGIN IMMEDIATE")
            sys.stdout.write("locked\n")
            sys.stdout.flush()
            sys.stdin.readline()
            connection.execute("COMMIT")


async def main(what: str, stalls: Stalls) -> dict[str, float]:
    """Do the work, on rows that are there and connections that are open."""
    await stalls.db.ensure_schema(Base.metadata)
    async with stalls.db.scope():
        stalls.db.session.add_all(Row(id=number) for number in range(TASKS))
    await stalls._count_up_all(2)
    async with stalls.db.scope():
        await stalls.db.execute(text("UPDATE fault_row SET n = 0"))
    stalls.work.clear()
    stalls.within.clear()
    done = await getattr(stalls, what)()
    await stalls.db.dispose()
    return stalls.figures(done)


if __name__ == "__main__":
    _, path, work, amount, number_of = sys.argv
    if work == "hold":
        hold(path)
    else:
        told = asyncio.run(main(work, Stalls(path, float(amount), int(number_of))))
        sys.stdout.write(json.dumps(told))
