"""R4, R8: real servers: clients that hang up, and clients that read what they wrote."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.acceptance.application import Application
from tests.acceptance.checks import PATIENCE, empty_tables, rows_of, until
from tests.acceptance.drivers import on_all, on_postgresql
from tests.acceptance.servers import Server, running
from tests.support.look import Onlooker
from tests.support.processes import bar

GRACE = 1  # seconds that gunicorn gives a request whose client has gone


async def prepare(url: str) -> None:
    """Make the tables."""
    under = Application(url)
    await empty_tables(under)
    await under.db.dispose()


@on_postgresql
@pytest.mark.timeout(120)
def test_clients_that_hang_up_harm_nobody(url, tmp_path, times, figures):
    """R4: gunicorn cancels the requests of clients that have gone; no later request fails."""
    count, statuses = times(20, 100), Counter()
    worker = ["-k", "asgi", "-w", "1", "--asgi-disconnect-grace-period", str(GRACE)]

    async def storm(server: Server) -> None:
        await server.until_ready()
        for start in range(0, count, 10):
            impatient = [server.hang_up_from(f"/slow/90000/{start + i}", 0.3) for i in range(10)]
            await asyncio.gather(*impatient)
            await asyncio.sleep(GRACE + 0.2)
        with Onlooker(url) as look:
            await until(lambda: "pg_sleep" not in str(look.rows(ACTIVE)), bar(3))
            assert look.idle_in_transaction(PATIENCE) == []
            await until(lambda: len(look.backends()) <= 15, PATIENCE)
        for i in range(200):
            statuses[(await server.ask("POST", f"/clean/{10**6 + i}"))[0]] += 1

    asyncio.run(prepare(url))
    with running("gunicorn", *worker, url=url, log=tmp_path / "log") as server:
        asyncio.run(storm(server))
    assert statuses == {200: 200}
    assert rows_of(url) == (set(), 0)
    figures(f"R4 {count} clients hung up: 0 of the next 200 requests failed, 0 rows by half")


ACTIVE = """
    SELECT query FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
"""


@on_all
@pytest.mark.timeout(300)
def test_what_was_answered_can_be_read(url, tmp_path, times, figures):
    """R8: POST, and as soon as it is answered GET, perhaps of another worker: never a 404."""
    count, missing = times(150, 5000), 0

    async def client(server: Server, numbers: range) -> None:
        nonlocal missing
        for i in numbers:
            status, _ = await server.ask("POST", f"/work/{i}")
            assert status == 200
            status, body = await server.ask("GET", f"/rows/{i}")
            assert status == 200
            missing += body != b"1"

    async def clients(server: Server) -> None:
        await server.until_ready()
        await asyncio.gather(*[client(server, range(k, count, 4)) for k in range(4)])

    asyncio.run(prepare(url))
    workers = ["--workers", "2", "--no-access-log"]
    with running("uvicorn", *workers, url=url, log=tmp_path / "log") as server:
        asyncio.run(clients(server))
    assert missing == 0
    assert rows_of(url) == (set(range(count)), 0)
    figures(f"R8 {count} times POST, then GET, 2 workers: 0 not found")
