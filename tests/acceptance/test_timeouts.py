"""R5, R12: requests that take too long, and more clients than connections."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from fastapi.responses import PlainTextResponse

from tests.acceptance.application import Application, Row
from tests.acceptance.checks import Stall, Turns, check_clean_requests, end_checks
from tests.acceptance.drivers import on_postgresql, on_sqlite_and_postgresql
from tests.support.processes import bar

LIMIT = 0.03  # seconds
AT_ONCE = 10


class Timeout:
    """A timeout middleware in pure ASGI: 504 unless a response has started in time."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        started = False

        async def noting(message: Any) -> None:
            nonlocal started
            await send(message)
            started = True

        try:
            async with asyncio.timeout(LIMIT if "/slow/" in scope["path"] else None):
                await self.app(scope, receive, noting)
        except TimeoutError:
            if not started:
                await PlainTextResponse("too slow", status_code=504)(scope, receive, send)


async def timeout_in_a_task(request: Any, call_next: Any) -> Any:
    """Be a timeout middleware in the usual form: the endpoint runs in a child task."""
    try:
        async with asyncio.timeout(LIMIT if "/slow/" in request.url.path else None):
            return await call_next(request)
    except TimeoutError:
        return PlainTextResponse("too slow", status_code=504)


def build(url: str, kind: str) -> Application:
    """Return an application with a timeout middleware of this kind, outside or inside of ours."""
    form, place = kind.split("-")
    under = Application(url)

    def add() -> None:
        if form == "asgi":
            under.app.add_middleware(Timeout)
        else:
            under.app.middleware("http")(timeout_in_a_task)

    if place == "inside":
        add()
    under.db.install(under.app)
    if place == "outside":
        add()
    return under


@on_sqlite_and_postgresql
@pytest.mark.parametrize("kind", ["asgi-outside", "asgi-inside", "task-outside", "task-inside"])
@pytest.mark.timeout(240)
def test_a_timeout_middleware_poisons_nothing(url, kind, times, figures):
    """R5: a request that is cut off is a 504, and no request after it fails."""
    under = build(url, kind)
    count = times(40, 1000)
    statuses: Counter[int | None] = Counter()

    async def one(i: int, acknowledged: set[int]) -> None:
        milliseconds = random.randrange(int(2000 * LIMIT))
        answer = await under.post(f"/slow/{milliseconds}/{i}", acknowledged)
        assert answer.error is None
        statuses[answer.status] += 1

    async def main() -> None:
        async with end_checks(under) as acknowledged:
            for start in range(0, count, AT_ONCE):
                numbers = range(start, start + AT_ONCE)
                await asyncio.gather(*[one(i, acknowledged) for i in numbers])

    random.seed(20261121)
    asyncio.run(main())
    assert set(statuses) <= {200, 504}
    assert statuses[504] > 0
    figures(f"R5 {statuses[504]} times 504, {statuses[200]} times 200; 0 of the next 200 failed")


CLIENTS, POOL = 1000, 10
WAIT = 1.0  # seconds: pool_timeout of the second half
STALL = bar(0.05)  # seconds that the loop may be away


@on_postgresql
@pytest.mark.timeout(300)
def test_a_thousand_clients_on_ten_connections(url, times, figures):
    """R12: all are served, or told 503 at the pool's timeout; the loop never stops turning."""
    clients = times(100, CLIENTS)
    options = {"pool_size": POOL, "max_overflow": 0, "pool_timeout": 60}
    patient = Application(url, engine_options=options)
    patient.db.install(patient.app)
    served, stall = asyncio.run(crowd(patient, clients, times(3, 10), seconds=0))
    assert set(served) == {200}
    hurried = Application(url, engine_options=options | {"pool_timeout": WAIT})
    hurried.db.install(hurried.app)
    told, second_stall = asyncio.run(crowd(hurried, clients, 1, seconds=0.5))
    assert set(told) <= {200, 503}
    assert told[503] > 0
    assert max(stall, second_stall) < STALL
    figures(
        f"R12 {clients} clients, pool {POOL}: {served[200]} OK; with 0.5 s queries and 1 s patience"
        f" {told[200]} OK, {told[503]} 503; stall {1000 * max(stall, second_stall):.0f} ms"
    )


async def crowd(
    under: Application, clients: int, each: int, *, seconds: float
) -> tuple[Counter[int | None], float]:
    """Let the clients come within a second, and send so many requests each."""
    statuses: Counter[int | None] = Counter()
    late: list[float] = []

    @under.app.post("/crowd/{i}")
    async def crowded(i: int) -> None:
        under.db.session.add(Row(id=i, n=1))
        await under.db.session.flush()
        under.db.on_commit(lambda: under.hooks.add(i))
        if seconds:
            await under.sleep_in_sql(seconds)

    async def client(first: int, acknowledged: set[int], clock: Turns) -> None:
        await asyncio.sleep(first / (clients * each))
        for i in range(first, first + each):
            start = clock.seconds
            answer = await under.post(f"/crowd/{i}", acknowledged)
            statuses[answer.status] += 1
            if answer.status == 503:
                assert "retry-after" in answer.headers
                late.append(clock.seconds - start)

    async with end_checks(under) as acknowledged:
        await check_clean_requests(under, 20)
        async with Stall() as stall, Turns() as clock:
            firsts = range(0, clients * each, each)
            await asyncio.gather(*[client(first, acknowledged, clock) for first in firsts])
    assert not late or max(late) < WAIT + 0.5, "503 comes at the timeout of the pool"
    return statuses, stall.longest
