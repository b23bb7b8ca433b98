"""R16: what isolation levels and retries promise, checked on what many transactions have done."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from sqlalchemy import text

from dbscope import AsyncDatabase
from tests.acceptance.drivers import on_postgresql
from tests.acceptance.history import Transaction, cycles
from tests.support.look import Onlooker

AT_ONCE = 8
RETRIES = 50
ACCOUNTS, KEYS = 10, 6
POOL = {"pool_size": AT_ONCE, "max_overflow": 0, "pool_timeout": 60}
pytestmark = pytest.mark.timeout(900)

TABLES = """
    DROP TABLE IF EXISTS account, list, duty;
    CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
    CREATE TABLE list (id int PRIMARY KEY, numbers int[] NOT NULL);
    CREATE TABLE duty (pair int, doctor int, on_call boolean, PRIMARY KEY (pair, doctor));
"""


class Bench:
    """A database, and many who work on it."""

    def __init__(self, url: str, look: Onlooker) -> None:
        self.db = AsyncDatabase(url, engine_options=POOL)
        self.look = look
        self.attempts: Counter[str] = Counter()

    def work(self, *jobs: Callable[[], Awaitable[None]]) -> None:
        """Do all jobs, so many at a time."""

        async def main() -> None:
            limit = asyncio.Semaphore(AT_ONCE)

            async def one(job: Callable[[], Awaitable[None]]) -> None:
                async with limit:
                    await job()

            await asyncio.gather(*map(one, jobs))
            await self.db.dispose()

        asyncio.run(main())

    def retried(self, isolation: str, function: Any) -> Any:
        """Return the function as a transaction of this level, done again after a conflict."""

        async def counted(*args: Any) -> None:
            self.attempts["in all"] += 1
            await function(*args)

        return self.db.atomic(isolation=isolation, retry=RETRIES)(counted)


@pytest.fixture
def bench(url: str) -> Iterator[Bench]:
    with made(url) as bench:
        yield bench


@contextmanager
def made(url: str) -> Iterator[Bench]:
    """Make the tables, and look whether nothing is left open."""
    with Onlooker(url) as look:
        look.execute(TABLES)
        look.execute(f"ALTER DATABASE {look.url.database} SET deadlock_timeout = '20ms'")
        look.execute(f"INSERT INTO account SELECT n, 100 FROM generate_series(1, {ACCOUNTS}) n")
        look.execute(f"INSERT INTO list SELECT n, '{{}}' FROM generate_series(1, {KEYS}) n")
        yield Bench(url, look)
        assert look.idle_in_transaction() == []


@on_postgresql
@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_no_increment_is_lost(bench: Bench, isolation: str, times: Any, figures: Any) -> None:
    """Read and then written by so many at once, without a lock; each is counted once."""
    number = times(60, 4000)
    read = text("SELECT balance FROM account WHERE id = 1")
    write = text("UPDATE account SET balance = :value WHERE id = 1")

    async def increment() -> None:
        value = await bench.db.scalar(read)
        await bench.db.execute(write, {"value": value + 1})

    bench.work(*[bench.retried(isolation, increment)] * number)
    assert bench.look.scalar("SELECT balance FROM account WHERE id = 1") == 100 + number
    figures(f"R16 {number} increments, {isolation}: 0 lost, {bench.attempts['in all']} attempts")


@on_postgresql
def test_no_money_is_made_or_lost(bench: Bench, times: Any, figures: Any) -> None:
    """Transfers in all directions: deadlocks and conflicts, and the total is as it was."""
    number = times(60, 4000)
    move = text("UPDATE account SET balance = balance + :amount WHERE id = :id")

    async def transfer(source: int, target: int, amount: int) -> None:
        await bench.db.execute(move, {"id": source, "amount": -amount})
        await bench.db.execute(move, {"id": target, "amount": amount})

    transfers = bench.retried("READ COMMITTED", transfer)

    def job() -> Callable[[], Awaitable[None]]:
        source, target = random.sample(range(1, ACCOUNTS + 1), 2)
        amount = random.randint(1, 20)
        return lambda: transfers(source, target, amount)

    bench.work(*(job() for _ in range(number)))
    assert bench.look.scalar("SELECT sum(balance) FROM account") == 100 * ACCOUNTS
    assert bench.attempts["in all"] >= number
    figures(f"R16 {number} transfers: total exact, {bench.attempts['in all']} attempts")


@on_postgresql
@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_write_skew_is_found_by_serializable_only(
    bench: Bench, isolation: str, times: Any, figures: Any
) -> None:
    """Of each pair of doctors one must stay; both ask, and both go, in a mere snapshot."""
    pairs = times(100, 2000)
    bench.look.execute(
        f"INSERT INTO duty SELECT p, d, true FROM generate_series(1, {pairs}) p, "
        "generate_series(1, 2) d"
    )
    others = text("SELECT count(*) FROM duty WHERE pair = :pair AND on_call")
    leave = text("UPDATE duty SET on_call = false WHERE pair = :pair AND doctor = :doctor")

    async def go_home(pair: int, doctor: int) -> None:
        if await bench.db.scalar(others, {"pair": pair}) == 2:
            await bench.db.execute(leave, {"pair": pair, "doctor": doctor})

    go = bench.retried(isolation, go_home)
    bench.work(*(lambda p=p, d=d: go(p, d) for p in range(1, pairs + 1) for d in (1, 2)))
    alone = "SELECT count(*) FROM (SELECT 1 FROM duty GROUP BY pair HAVING NOT bool_or(on_call)) x"
    skewed = bench.look.scalar(alone)
    assert skewed == 0 if isolation == "SERIALIZABLE" else skewed > 0
    figures(f"R16 {2 * pairs} goings, {isolation}: {skewed} pairs without a doctor")


@on_postgresql
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "SERIALIZABLE"])
def test_an_order_explains_what_serializable_transactions_have_seen(
    bench: Bench, isolation: str, times: Any, figures: Any
) -> None:
    """Lists that are read and appended to: no cycle; with less isolation the checker finds some."""
    number = times(200, 4000)
    numbers = count(1)
    history: list[Transaction] = []
    read = text("SELECT numbers FROM list WHERE id = :key")
    append = text("UPDATE list SET numbers = numbers || CAST(:value AS int) WHERE id = :key")

    async def some_of_each() -> None:
        done = Transaction()
        for key in random.sample(range(1, KEYS + 1), 3):
            if random.random() < 0.5:
                done.reads[key] = list(await bench.db.scalar(read, {"key": key}))
            else:
                done.appends[key] = next(numbers)
                await bench.db.execute(append, {"key": key, "value": done.appends[key]})
        bench.db.on_commit(lambda: history.append(done))

    bench.work(*[bench.retried(isolation, some_of_each)] * number)
    final = {key: list(values) for key, values in bench.look.rows("SELECT id, numbers FROM list")}
    assert len(history) == number
    assert sum(map(len, final.values())) == sum(len(each.appends) for each in history)
    found = cycles(history, final)
    assert found == 0 if isolation == "SERIALIZABLE" else found > 0
    told = f"{found} cycles, {bench.attempts['in all']} attempts"
    figures(f"R16 {number} transactions over lists, {isolation}: {told}")
