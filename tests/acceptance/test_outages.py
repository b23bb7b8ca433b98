"""R9, R10: the server is killed, its backends are terminated; what was acknowledged stays."""

from __future__ import annotations

import asyncio
import time

import psutil
import pytest
from sqlalchemy import make_url

from tests.acceptance.application import Application
from tests.acceptance.checks import check_clean_requests, end_checks, until
from tests.acceptance.drivers import ON_POSTGRESQL, on_postgresql
from tests.acceptance.load import HONEST, Load
from tests.support.look import Onlooker
from tests.support.processes import bar

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
OTHERS += " AND backend_type = 'client backend'"


def terminate_all(look: Onlooker) -> int:
    """End all other backends of this database, and return how many there were."""
    return len(look.rows(f"SELECT pg_terminate_backend(pid) {OTHERS}"))


def have_ended(ports: set[int]) -> bool:
    """Tell whether the server has ended its side of all these connections of this process."""
    ours = psutil.Process().net_connections("tcp")
    return not any(each.status == "ESTABLISHED" and each.laddr.port in ports for each in ours)


@pytest.mark.parametrize("driver", ON_POSTGRESQL)
@pytest.mark.timeout(240)
def test_killing_the_server_loses_nothing(driver, private_postgres, times, figures):
    """R9: SIGKILL under load: nothing acknowledged is lost, and it serves again at once."""
    url = make_url(private_postgres.new_database()).set(drivername=f"postgresql+{driver}")
    under = Application(url.render_as_string(hide_password=False))
    under.db.install(under.app)
    recovered: list[float] = []

    async def main() -> Load:
        async with end_checks(under) as acknowledged:
            async with Load(under, acknowledged) as load:
                for _ in range(times(1, 5)):
                    await asyncio.sleep(0.5)
                    await asyncio.to_thread(private_postgres.kill9)
                    await asyncio.sleep(0.3)
                    await asyncio.to_thread(private_postgres.start)
                    load.mark()
                    recovered.append(await load.until_ok())
            assert set(load.answers) <= HONEST
            assert len(acknowledged) == load.answers["OK"] > 0
            assert max(recovered) < bar(1)
        return load

    load = asyncio.run(main())
    told = ", ".join(f"{count} {name}" for name, count in sorted(load.answers.items()))
    figures(f"R9 {len(recovered)} kills: {told}; 0 lost; first OK {1000 * max(recovered):.0f} ms")


@on_postgresql
@pytest.mark.timeout(240)
def test_a_storm_of_terminated_backends_loses_nothing(url, times, figures):
    """R10: pg_terminate_backend under load: nothing lost, nothing leaked, only honest answers."""
    under = Application(url)
    under.db.install(under.app)
    wanted, kills = times(100, 1000), 0

    async def main() -> Load:
        nonlocal kills
        async with end_checks(under) as acknowledged:
            async with Load(under, acknowledged) as load:
                with Onlooker(url) as look:
                    deadline = time.monotonic() + times(100, 120)
                    while kills < wanted:
                        assert time.monotonic() < deadline, "nobody comes back to be killed"
                        load.mark()
                        await asyncio.sleep(0.05)
                        await load.until_ok()  # a busy machine needs longer to serve anybody
                        kills += await asyncio.to_thread(terminate_all, look)
            assert set(load.answers) <= HONEST
            assert len(acknowledged) == load.answers["OK"] > 0
        return load

    load = asyncio.run(main())
    told = ", ".join(f"{count} {name}" for name, count in sorted(load.answers.items()))
    figures(f"R10 {kills} backends terminated: {told}; 0 lost, 0 leaked")


@on_postgresql
def test_nobody_notices_that_idle_connections_were_ended(url, times, figures):
    """R10: without pre-ping, a pool whose connections were all killed answers with no error."""
    under = Application(url)
    under.db.install(under.app)
    rounds = times(2, 20)
    kills = 0

    async def main() -> None:
        nonlocal kills
        async with end_checks(under):
            with Onlooker(url) as look:
                for _ in range(rounds):
                    paths = [under.next_clean() for _ in range(10)]
                    await asyncio.gather(*[under.post(path) for path in paths])
                    ports = {port for (port,) in look.rows(f"SELECT client_port {OTHERS}")}
                    kills += await asyncio.to_thread(terminate_all, look)
                    await until(lambda ports=ports: have_ended(ports), 20)
                    await asyncio.sleep(0.05)  # the loop has to see it
                    await check_clean_requests(under, 50)
        assert kills >= rounds

    asyncio.run(main())
    figures(f"R10 {kills} idle connections killed: 0 of {rounds * 50} requests failed")
