"""What must hold after every fault, whatever it was: the universal end checks."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self

from sqlalchemy import delete

from tests.acceptance.application import CLEAN, Application, Base, Row
from tests.support.look import Onlooker
from tests.support.processes import LONG, bar

PATIENCE = bar(1)  # seconds until no backend may be idle in a transaction
LOCK_PATIENCE = bar(0.5)  # seconds until SQLite's write lock must be free
CLEAN_REQUESTS = 200 if os.environ.get(LONG) else 50  # more than there are connections
# What drivers say of a connection that is closed in the middle of a query; it is meant to be.
OF_DRIVERS = ("psycopg: query cancellation interrupted (CancelledError)",)


class Complaints(logging.Handler):
    """What anybody but the library warns of, and what the event loop says that nobody took.

    Of the faults themselves the library tells by its own logger.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        if record.name != "dbscope":
            self.seen.append(f"{record.name}: {record.getMessage()}")

    def of_the_loop(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep what the loop would log: an exception that nobody has read, for example."""
        self.seen.append(f"the loop: {context['message']} {context.get('exception')!r}")

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen to all loggers, and to the running loop."""
        loop, root = asyncio.get_running_loop(), logging.getLogger()
        before = loop.get_exception_handler()
        root.addHandler(self)
        loop.set_exception_handler(self.of_the_loop)
        try:
            yield
        finally:
            root.removeHandler(self)
            loop.set_exception_handler(before)


@asynccontextmanager
async def end_checks(
    under: Application, *, clean: int = CLEAN_REQUESTS, expected: tuple[str, ...] = ()
) -> AsyncIterator[set[int]]:
    """Make the tables; give the set of acknowledged rows; after the faults check everything.

    Args:
        under: the application.
        clean: how many clean requests have to be right afterwards.
        expected: the beginnings of what a driver says of the fault itself.
    """
    await empty_tables(under)
    tasks = asyncio.all_tasks()
    complaints = Complaints()
    acknowledged: set[int] = set()
    try:
        with complaints.heard():
            yield acknowledged
            await check_nothing_is_held(under)
            await check_clean_requests(under, clean)
            await asyncio.to_thread(check_rows, under, acknowledged)
            assert stray_tasks(tasks) == set()
            gc.collect()
            await asyncio.sleep(0)  # what was collected tells the loop
        known = (*expected, *OF_DRIVERS)
        unexpected = [each for each in complaints.seen if not each.startswith(known)]
        assert not unexpected, Counter(unexpected)
    finally:
        await under.db.dispose()


async def empty_tables(under: Application) -> None:
    """Have the tables there, and nothing in them."""
    await under.db.ensure_schema(Base.metadata)
    async with under.db.engine.begin() as connection:
        await connection.execute(delete(Row))


async def check_nothing_is_held(under: Application) -> None:
    """No connection is checked out, no backend idle in a transaction, no write lock held."""
    with Onlooker(under.url) as look:
        if under.is_sqlite:
            await until(look.write_lock_is_free, LOCK_PATIENCE)
        else:
            assert await asyncio.to_thread(look.idle_in_transaction, PATIENCE) == []
            # A server ends what a discarded connection was about when it notices.
            await until(lambda: len(look.backends()) <= size_of_pool(under), PATIENCE)
    assert under.db.stats()["pool_checked_out"] == 0


def size_of_pool(under: Application) -> int:
    """Return how many connections the pool may have."""
    pool = under.db.engine.pool
    return pool.size() + pool._max_overflow


async def until(holds: Callable[[], bool], patience: float) -> None:
    """Wait until something holds; fail if it takes longer than the patience."""
    deadline = time.monotonic() + patience
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline, "it was not so in time"
        await asyncio.sleep(0.01)


async def check_clean_requests(under: Application, count: int = CLEAN_REQUESTS) -> None:
    """Requests that nothing is wrong with succeed, and each reads its own row."""
    answers: Counter[object] = Counter()
    for _ in range(count):
        answer = await under.post(under.next_clean())
        answers[repr(answer.error) if answer.error else answer.status] += 1
    assert answers == {200: count}


def check_rows(under: Application, acknowledged: set[int]) -> None:
    """Acknowledged rows are there; no row is there by half; hooks ran for the rows that are."""
    present, halves = rows_of(under.url)
    assert acknowledged - present == set(), "acknowledged, but lost"
    assert halves == 0, "half of a transaction"
    assert under.hooks - present == set(), "a hook ran for what was not committed"
    assert acknowledged - under.hooks == set(), "a hook did not run"


def rows_of(url: str) -> tuple[set[int], int]:
    """Return the rows of the faults as another client sees them, and how many are half done."""
    with Onlooker(url) as look:
        rows = look.rows("SELECT id, n FROM fault_row WHERE id < ?", CLEAN)
    return {i for i, _ in rows}, sum(n == 0 for _, n in rows)


def stray_tasks(before: set[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    """Return the tasks that somebody has left running."""
    return {task for task in asyncio.all_tasks() - before if not task.done()}


class Turns:
    """A clock that goes only while the event loop turns: it stands still when the machine does."""

    TICK = 0.01  # seconds

    def __init__(self) -> None:
        self.seconds = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self.TICK)
            self.seconds += self.TICK


class Stall:
    """Watches how long the event loop was busy between two turns of a task that only ticks.

    In time of the processor: whether the machine has other work is not the subject, and blocking
    calls are what `blocking_calls` is for. Python's garbage collector rests meanwhile: with a
    thousand requests alive one run of it takes 250 ms, whatever library they use.
    """

    def __init__(self) -> None:
        self.longest = 0.0  # seconds

    async def __aenter__(self) -> Self:
        gc.disable()
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *exc: object) -> None:
        gc.enable()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _tick(self) -> None:
        while True:
            start = time.thread_time()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.thread_time() - start)
