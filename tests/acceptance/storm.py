"""The cancellation storm, as a program: `python -m tests.acceptance.storm URL COUNT CLEAN WHERE`.

Requests are cancelled at random moments, before, in and after statements and during COMMIT; half
of them by `task.cancel()`, half by an anyio cancel scope. It prints its figures as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter

import anyio

from tests.acceptance.application import Application
from tests.acceptance.checks import end_checks, rows_of

AT_ONCE = 8


async def pass_on(request, call_next):
    """Be a middleware of the user that does nothing, in a task of its own."""
    return await call_next(request)


def build(url: str, where: str) -> Application:
    """Return the application, with the user's `BaseHTTPMiddleware` outside or inside of ours."""
    under = Application(url)
    if where == "inside":
        under.app.middleware("http")(pass_on)
    under.db.install(under.app)
    if where == "outside":
        under.app.middleware("http")(pass_on)
    return under


async def one_request(under: Application) -> float:
    """Measure how long a request takes."""
    start = time.perf_counter()
    for _ in range(50):
        await under.post(under.next_clean())
    return (time.perf_counter() - start) / 50


async def victim(under: Application, i: int, delay: float, acknowledged: set[int]) -> str:
    """Send a request, cancel it after the delay, and tell what became of it."""
    if i % 2:
        with anyio.move_on_after(delay) as scope:
            await finished(under, i, acknowledged)
        return "cancelled by scope" if scope.cancelled_caught else "done"
    task = asyncio.create_task(finished(under, i, acknowledged))
    done, _ = await asyncio.wait([task], timeout=delay)
    if not done:
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled by task"
    return "done"


async def finished(under: Application, i: int, acknowledged: set[int]) -> None:
    """Send a request that must succeed if nobody cancels it."""
    answer = await under.post(f"/work/{i}", acknowledged)
    if answer.error is not None:
        raise answer.error
    assert answer.status == 200


async def storm(under: Application, count: int, clean: int) -> dict[str, object]:
    """Cancel; the end checks follow, and then what only this program can know."""
    outcomes: Counter[str] = Counter()
    async with end_checks(under, clean=clean) as acknowledged:
        longest = await one_request(under) * 3 * AT_ONCE
        for start in range(0, count, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, count))
            delays = [random.random() * longest for _ in numbers]
            work = [victim(under, i, d, acknowledged) for i, d in zip(numbers, delays, strict=True)]
            outcomes.update(await asyncio.gather(*work))
        told = under.db.stats()
    present, _ = rows_of(under.url)
    assert present == under.sent, "a row is there exactly if its COMMIT was sent"
    assert under.hooks == present, "a hook ran exactly if its row is there"
    return {
        **outcomes,
        "rows": len(present),
        "acknowledged": len(acknowledged),
        "discarded": told["connections_discarded"],
        "ended at": time.time(),
    }


if __name__ == "__main__":
    random.seed(20261121)
    program, wanted, clean_wanted, place = sys.argv[1:]
    figures = asyncio.run(storm(build(program, place), int(wanted), int(clean_wanted)))
    sys.stdout.write(json.dumps(figures))
