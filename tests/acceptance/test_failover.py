"""R26: a primary is killed under load and its standby promoted; each order is placed once."""

from __future__ import annotations

import asyncio
import collections
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import create_engine

from dbscope import AsyncDatabase, TransactionOutcomeUnknown
from dbscope.once import metadata
from tests.acceptance.drivers import ON_POSTGRESQL
from tests.acceptance.once_application import Base, Order
from tests.asgi import Answer, ask
from tests.support.look import until
from tests.support.postgres import OwnServer
from tests.support.standby import Cluster, first_primary

CLIENTS = 8
HONEST = {201, 500, 503}


@pytest.fixture
def servers() -> Iterator[list[OwnServer]]:
    """Who is the primary, the last one of all that were."""
    servers = [first_primary()]
    engine = create_engine(servers[0].url())
    Base.metadata.create_all(engine)
    metadata.create_all(engine)
    engine.dispose()
    yield servers
    for server in servers:
        server.close()


class Clients:
    """Who place orders, each with a key, again and again until there is an answer."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.told: dict[int, list[bytes]] = collections.defaultdict(list)
        self.statuses: collections.Counter[int | None] = collections.Counter()
        self.placed = 0
        self.stop = False

    async def place(self, number: int) -> None:
        """Place one order, whatever it takes."""
        before: list[int | None] = []
        while True:
            answer = await self.ask(number)
            if answer.status == 201:
                break
            before.append(answer.status)
            await asyncio.sleep(0.02)
        if set(before) == {503}:  # which has said that nothing was stored
            assert "idempotent-replayed" not in answer.headers
        self.told[number].append(answer.body)

    async def ask(self, number: int) -> Answer:
        """Ask for it once."""
        key = [(b"idempotency-key", f'"order-{number}"'.encode())]
        answer = await ask(self.app, "POST", f"/orders/{number}", headers=key)
        self.statuses[answer.status] += 1
        assert answer.status in HONEST, answer
        is_unknown = isinstance(answer.error, TransactionOutcomeUnknown)
        assert is_unknown == (answer.status == 500), answer
        return answer

    async def one(self) -> None:
        """Place order after order."""
        while not self.stop:
            self.placed += 1
            await self.place(self.placed)

    @asynccontextmanager
    async def all(self) -> AsyncIterator[None]:
        """Let them, while it lasts."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self.one())
            yield
            self.stop = True

    async def more(self, count: int) -> None:
        """Wait until so many more are placed."""
        wanted = len(self.told) + count
        while len(self.told) < wanted:  # noqa: ASYNC110  (by all of them)
            await asyncio.sleep(0.01)


def application(db: AsyncDatabase) -> FastAPI:
    """Return an application that does not know how often an order comes."""
    app = FastAPI()
    db.install(app, idempotency=True)

    @app.post("/orders/{number}", status_code=201)
    async def place(number: int) -> dict[str, Any]:
        order = Order(number=number, token=secrets.token_hex(8))
        db.session.add(order)
        await db.session.flush()
        return {"id": order.id, "token": order.token}

    return app


async def fail_over(
    cluster: Cluster, servers: list[OwnServer], clients: Clients, *, synchronous: bool
) -> None:
    """Lose the answer of a COMMIT, and with it the primary."""
    standby = cluster.standby
    await asyncio.to_thread(standby.follow, synchronous=synchronous)
    await clients.more(20)
    if not synchronous:
        await asyncio.to_thread(standby.hear_nothing)
        await clients.more(20)
    cuts = cluster.proxy.cuts
    cluster.proxy.cut_after_commit(then="hold")
    assert await asyncio.to_thread(until, lambda: cluster.proxy.cuts > cuts)
    await asyncio.to_thread(cluster.fail_over)
    await clients.more(20)
    servers[:] = [standby]
    await asyncio.to_thread(cluster.primary.close)


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "asynchronous"])
@pytest.mark.parametrize("driver", ON_POSTGRESQL)
@pytest.mark.timeout(600)
def test_orders_are_placed_once_across_a_failover(
    driver: str,
    synchronous: bool,
    servers: list[OwnServer],
    times: Callable[[int, int], int],
    figures: Callable[[str], None],
) -> None:
    """R26: none twice; synchronous: none lost; asynchronous: what was lost is placed again."""
    cluster = Cluster(servers[0])
    db = AsyncDatabase(cluster.proxy.through(servers[0].url(driver)))
    clients = Clients(application(db))
    failovers = times(1, 20)

    async def main() -> None:
        async with clients.all():
            for number in range(failovers):
                if number:
                    await asyncio.to_thread(cluster.follow_up)
                await fail_over(cluster, servers, clients, synchronous=synchronous)
        for number in range(1, clients.placed + 1):
            await clients.place(number)
        await db.dispose()

    try:
        asyncio.run(main())
    finally:
        cluster.proxy.close()
    rows = cluster.rows(servers[0], "SELECT number, id, token FROM once_order ORDER BY number")
    assert [number for number, *_ in rows] == list(range(1, clients.placed + 1))
    lost = 0
    for number, serial, token in rows:
        told = clients.told[number]
        assert told[-1] == f'{{"id":{serial},"token":"{token}"}}'.encode()
        lost += told[0] != told[-1]
    assert lost == 0 if synchronous else lost > 0
    how = "synchronous" if synchronous else "asynchronous"
    answers = ", ".join(f"{count} times {status}" for status, count in clients.statuses.items())
    figures(
        f"R26 {failovers} failovers, {how}: {clients.placed} orders, 0 twice, {lost} acknowledged "
        f"ones lost and placed again; {answers}"
    )
