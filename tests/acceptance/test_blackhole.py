"""R11: the network swallows everything, and nobody says goodbye."""

from __future__ import annotations

import asyncio

import pytest

from dbscope.engine.factory import FINISH_TIMEOUT
from tests.acceptance.application import Application
from tests.acceptance.checks import Turns, check_clean_requests, end_checks
from tests.acceptance.drivers import on_servers

TIMEOUT = 0.5  # seconds until the request is cancelled
GRACE = 2.5  # seconds that it may take to end
AT_ONCE = 10
NOBODY_THERE = ("psycopg: query cancellation ",)  # it failed, which is so


@on_servers
@pytest.mark.timeout(120)
def test_a_request_into_a_black_hole_ends_and_the_pool_heals(url, proxy, times, figures):
    """R11: a cancelled request ends within 2.5 s though nothing answers; the pool heals itself."""
    under = Application(proxy.through(url))
    under.db._source.finish_timeout = FINISH_TIMEOUT
    under.db.install(under.app)
    took: list[float] = []

    async def victim(i: int, acknowledged: set[int], clock: Turns) -> None:
        start = clock.seconds
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                await under.post(f"/work/{i}", acknowledged)
        took.append(clock.seconds - start)

    async def main() -> None:
        async with end_checks(under, expected=NOBODY_THERE) as acknowledged:
            for batch in range(times(1, 10)):
                await check_clean_requests(under, AT_ONCE)
                proxy.blackhole()
                numbers = range(batch * AT_ONCE, (batch + 1) * AT_ONCE)
                async with Turns() as clock:
                    await asyncio.gather(*[victim(i, acknowledged, clock) for i in numbers])
                assert under.db.stats()["pool_checked_out"] == 0
                proxy.cut_all()  # PostgreSQL still waits for those in the hole
                proxy.pass_through()
                await check_clean_requests(under, AT_ONCE)
            assert acknowledged == set()
        assert max(took) <= TIMEOUT + GRACE

    asyncio.run(main())
    figures(f"R11 {len(took)} requests: cancelled at 0.5 s, ended after at most {max(took):.2f} s")
