"""R11: the network swallows everything, and nobody says goodbye."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.acceptance.application import Application
from tests.acceptance.checks import check_clean_requests, end_checks
from tests.acceptance.drivers import on_postgresql

TIMEOUT = 0.5  # seconds until the request is cancelled
GRACE = 2.5  # seconds that it may take to end
AT_ONCE = 10


@on_postgresql
@pytest.mark.timeout(120)
def test_a_request_into_a_black_hole_ends_and_the_pool_heals(url, proxy, times, figures):
    """R11: a cancelled request ends within 2.5 s though nothing answers; the pool heals itself."""
    under = Application(proxy.through(url))
    under.db.install(under.app)
    took: list[float] = []

    async def victim(i: int, acknowledged: set[int]) -> None:
        start = time.perf_counter()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                await under.post(f"/work/{i}", acknowledged)
        took.append(time.perf_counter() - start)

    async def main() -> None:
        async with end_checks(under) as acknowledged:
            for batch in range(times(1, 10)):
                await check_clean_requests(under, AT_ONCE)
                proxy.blackhole()
                numbers = range(batch * AT_ONCE, (batch + 1) * AT_ONCE)
                await asyncio.gather(*[victim(i, acknowledged) for i in numbers])
                assert under.db.stats()["pool_checked_out"] == 0
                proxy.pass_through()
                await check_clean_requests(under, AT_ONCE)
            proxy.cut_all()
            assert acknowledged == set()
        assert max(took) <= TIMEOUT + GRACE

    asyncio.run(main())
    figures(f"R11 {len(took)} requests: cancelled at 0.5 s, ended after at most {max(took):.2f} s")
