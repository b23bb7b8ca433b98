"""R13, R14: one request, several tasks or several scopes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from sqlalchemy import func, select

from dbscope import ConcurrentUse
from tests.acceptance.application import Application, Row
from tests.acceptance.checks import end_checks
from tests.acceptance.drivers import on_all, on_postgresql
from tests.asgi import Answer


def with_gather(under: Application) -> None:
    """Add endpoints that use the request's session three times at once."""
    db = under.db

    async def one() -> int:
        return await db.scalar(select(func.count()).select_from(Row))

    @under.app.post("/cold/{i}")
    async def cold(i: int) -> None:
        await asyncio.gather(one(), one(), one())

    @under.app.post("/warm/{i}")
    async def warm(i: int) -> None:
        db.session.add(Row(id=i))
        await db.session.flush()
        await asyncio.gather(one(), one(), one())

    @under.app.post("/swallowed/{i}")
    async def swallowed(i: int) -> None:
        db.session.add(Row(id=i))
        await db.session.flush()
        results = await asyncio.gather(one(), one(), one(), return_exceptions=True)
        raise next(result for result in results if isinstance(result, Exception))


@on_all
@pytest.mark.timeout(120)
def test_gather_on_the_session_of_a_request_is_a_clear_error(url, times, figures):
    """R14: `gather` on one session is ConcurrentUse, cold and warm; nothing goes on running."""
    under = Application(url)
    with_gather(under)
    under.db.install(under.app)
    count = times(60, 1000)
    errors: Counter[type] = Counter()

    async def main() -> None:
        async with end_checks(under) as acknowledged:
            for i in range(0, count, 10):
                kinds = ["cold", "warm", "swallowed"]
                paths = [f"/{kinds[n % 3]}/{n}" for n in range(i, i + 10)]
                before = asyncio.all_tasks()
                for answer in await asyncio.gather(*[under.post(p, acknowledged) for p in paths]):
                    errors[type(answer.error)] += 1
                await asyncio.sleep(0)
                assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()
            assert under.db.stats()["pool_checked_out"] == 0
            assert acknowledged == set()

    asyncio.run(main())
    assert errors == {ConcurrentUse: count}
    figures(f"R14 {count} requests: {count} ConcurrentUse, 0 orphans")


CLIENTS = 100
POOL_TIMEOUT = 1.0


def with_two_scopes(under: Application) -> None:
    """Add endpoints that use the database from two places in one request."""
    db = under.db

    @under.app.post("/same/{i}")
    async def same(i: int) -> None:
        db.session.add(Row(id=i))
        await db.session.flush()
        async with db.atomic():  # what a dependency or a service does
            await db.scalar(select(func.count()).select_from(Row))
        db.on_commit(lambda: under.hooks.add(i))
        (await db.session.get_one(Row, i)).n = 1

    @under.app.post("/second/{i}")
    async def second(i: int) -> None:
        db.session.add(Row(id=i, n=1))
        await db.session.flush()
        db.on_commit(lambda: under.hooks.add(i))
        async with db.scope():
            await db.scalar(select(func.count()).select_from(Row))


@on_postgresql
@pytest.mark.timeout(240)
def test_two_users_of_one_scope_share_its_connection(url, times, figures):
    """R13: a request holds one connection, however many places use it: no deadlock."""
    under = Application(url, engine_options={"pool_timeout": 20})
    with_two_scopes(under)
    under.db.install(under.app)
    count = times(200, 2000)

    async def main() -> Counter[int | None]:
        async with end_checks(under) as acknowledged:
            answers = await at_once(under, "same", count, acknowledged)
            assert under.db.stats()["second_connections"] == 0
            return Counter(answer.status for answer in answers)

    assert asyncio.run(main()) == {200: count}
    figures(f"R13 {count} requests, {CLIENTS} at once, pool 15, one scope: 0 failed")


@on_postgresql
@pytest.mark.timeout(240)
def test_a_second_scope_in_a_request_is_named_when_it_exhausts_the_pool(
    url, times, figures, caplog
):
    """R13: scopes inside scopes can use up the pool: that ends at its timeout, and is named."""
    under = Application(url, engine_options={"pool_timeout": POOL_TIMEOUT})
    with_two_scopes(under)
    under.db.install(under.app)
    count = times(200, 1000)

    async def main() -> Counter[int | None]:
        async with end_checks(under) as acknowledged:
            answers = await at_once(under, "second", count, acknowledged)
            assert under.db.stats()["second_connections"] > 0
            return Counter(answer.status for answer in answers)

    start = time.perf_counter()
    statuses = asyncio.run(main())
    assert set(statuses) <= {200, 503}
    assert statuses[503] == 0 or "A scope around it holds another one" in caplog.text
    seconds = time.perf_counter() - start
    figures(f"R13 {count} requests with a second scope: {dict(statuses)} in {seconds:.0f} s, named")


async def at_once(
    under: Application, path: str, count: int, acknowledged: set[int]
) -> list[Answer]:
    """Send the requests, as many clients at once as there are."""
    numbers = iter(range(count))

    async def client() -> list[Answer]:
        return [await under.post(f"/{path}/{i}", acknowledged) for i in numbers]

    by_client = await asyncio.gather(*[client() for _ in range(CLIENTS)])
    return [answer for answers in by_client for answer in answers]
