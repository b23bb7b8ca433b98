"""Exactly once over HTTP: repeated, cut and killed at COMMIT, and still nothing doubled or lost."""

from __future__ import annotations

import asyncio
import collections
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from dbscope.once import metadata
from tests.acceptance.once_application import Base
from tests.acceptance.servers import ROOT
from tests.support.look import Onlooker
from tests.support.proxy import Proxy

CLIENTS = 12
KINDS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
on_each = pytest.mark.parametrize("url", ["inline", "psycopg", "asyncpg", "asyncmy"], indirect=True)


class Supervised:
    """A server that is started again whenever it is gone, on a socket that stays."""

    def __init__(self, url: str, log: Path, kills: int, orders: int, cut_every: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.port = self.listener.getsockname()[1]
        self.kills_left, self.kills = kills, 0
        self._every = orders // (kills + 1)
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        self._env = {
            **os.environ,
            "DATABASE_URL": url,
            "PYTHONPATH": path,
            "CUT_EVERY": str(cut_every),
        }
        self._log = log

    async def run(self) -> None:
        """Start it, again and again; end it when this is cancelled."""
        command = ["--factory", "tests.acceptance.once_application:make"]
        command += ["--fd", str(self.listener.fileno()), "--no-access-log"]
        while True:
            kill_at = self._every if self.kills_left else 0
            with self._log.open("ab") as file:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "uvicorn", *command),
                    env={**self._env, "KILL_AT": str(kill_at)},
                    cwd=ROOT,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    pass_fds=[self.listener.fileno()],
                )
            try:
                await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            self.kills += 1
            self.kills_left -= 1

    async def post(self, number: int) -> tuple[int, bytes]:
        """Place an order; 0 if there was no answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST /orders/{number} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n"
        head += f'Connection: close\r\nIdempotency-Key: "order-{number}"\r\n\r\n'
        try:
            writer.write(head.encode())
            answer = await asyncio.wait_for(reader.read(), 60)
        except OSError:
            answer = b""
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        start, _, body = answer.partition(b"\r\n\r\n")
        return (int(start.split()[1]), body) if start else (0, b"")


class Clients:
    """Who place orders, repeat them until there is an answer, and some of them once more."""

    def __init__(self, server: Supervised) -> None:
        self.server = server
        self.told: dict[int, set[bytes]] = collections.defaultdict(set)
        self.statuses: collections.Counter[int] = collections.Counter()

    async def place(self, number: int) -> None:
        """Place one order, whatever it takes; each tenth is repeated."""
        for _ in range(2 if number % 10 == 0 else 1):
            for _ in range(200):
                status, body = await self.server.post(number)
                self.statuses[status] += 1
                if status == 201:
                    self.told[number].add(body)
                    break
                await asyncio.sleep(0.02)
            else:
                raise AssertionError(f"order {number} was never answered")

    async def place_all(self, orders: int) -> None:
        """Place them all, several at once."""
        numbers = iter(range(orders))

        async def one() -> None:
            for number in numbers:
                await self.place(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(one())


async def reached(count: Callable[[], int], wanted: int) -> None:
    """Wait until there are as many."""
    while count() < wanted:  # noqa: ASYNC110  (others count, some of them in other processes)
        await asyncio.sleep(0.01)


async def cut_now_and_then(proxy: Proxy, cuts: int, clients: Clients, orders: int) -> None:
    """Cut the wire at a COMMIT, before or after the server has it, evenly over all orders."""
    for number in range(cuts):
        wanted = (number + 1) * orders // (cuts + 1)
        await reached(partial(len, clients.told), wanted)
        (proxy.cut_before_commit if number % 2 else proxy.cut_after_commit)()


@on_each
@pytest.mark.timeout(1800)
def test_orders_are_placed_exactly_once(
    url: str,
    tmp_path: Path,
    times: Callable[[int, int], int],
    figures: Callable[[str], None],
    request: pytest.FixtureRequest,
) -> None:
    """None doubled, none lost, repeats identical, and each unknown outcome resolved."""
    orders, cuts, kills = times(120, 10_000), times(4, 100), times(1, 50)
    is_sqlite = url.startswith("sqlite")
    make_tables(url)
    proxy = None if is_sqlite else Proxy(server_of(url, request))
    address = url if proxy is None else proxy.through(url)
    # SQLite has no wire: there the driver loses the answer.
    every = orders // cuts if is_sqlite else 0
    server = Supervised(address, tmp_path / "log", kills, orders, every)
    clients = Clients(server)
    try:
        asyncio.run(storm(server, clients, orders, proxy, cuts))
    finally:
        server.listener.close()
        if proxy is not None:
            proxy.close()
    check(url, clients, orders)
    assert server.kills == kills
    assert clients.statuses[500] == 0  # a COMMIT without an answer is found out in the request
    cut = cuts if proxy is None else proxy.cuts
    told = ", ".join(f"{n} times {s or 'no answer'}" for s, n in sorted(clients.statuses.items()))
    figures(f"{orders} orders, {server.kills} kills, {cut} cuts: 0 doubled, 0 lost; {told}")


async def storm(
    server: Supervised, clients: Clients, orders: int, proxy: Proxy | None, cuts: int
) -> None:
    """Let the clients place their orders, while all that goes wrong does."""
    tasks = [asyncio.create_task(server.run())]
    if proxy is not None:
        tasks.append(asyncio.create_task(cut_now_and_then(proxy, cuts, clients, orders)))
    try:
        await clients.place_all(orders)
    finally:
        await end(tasks)


async def end(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel what is left, and raise what went wrong in it."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


def make_tables(url: str) -> None:
    """Make the tables, by an engine that nobody else has."""
    parsed = make_url(url)
    engine = create_engine(parsed.set(drivername=KINDS[parsed.get_backend_name()]))
    Base.metadata.create_all(engine)
    metadata.create_all(engine)
    engine.dispose()


def server_of(url: str, request: pytest.FixtureRequest) -> Any:
    """Return the server of a database."""
    return request.getfixturevalue("mysql_server" if url.startswith("mysql") else "postgres")


def check(url: str, clients: Clients, orders: int) -> None:
    """Look at what is stored, and at what was told."""
    with Onlooker(url) as look:
        stored = look.rows("SELECT number, id, token FROM once_order")
        rows = look.scalar("SELECT count(*) FROM dbscope_once WHERE result IS NOT NULL")
    counted = collections.Counter(number for number, _, _ in stored)
    assert [n for n, times in counted.items() if times > 1] == []
    assert set(counted) == set(range(orders)) == set(clients.told)
    assert rows == orders
    for number, id_, token in stored:
        assert clients.told[number] == {f'{{"id":{id_},"token":"{token}"}}'.encode()}
