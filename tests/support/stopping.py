"""A program that stops its event loop as Daphne does, while requests are on their way.

    python -m tests.support.stopping <state> <url>

It cancels all requests, stops the loop when the first of them has ended, and comes to its end.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress

from fastapi import FastAPI
from sqlalchemy import text

from dbscope import Database
from dbscope.aio import concurrency
from tests.asgi import call

FOREVER = 3600  # seconds
KEPT: list[asyncio.Task[object]] = []  # as the server keeps them
STATES = ("pool", "turn", "gate", "work")


class Program:
    """Requests that hold, and requests that wait for what they hold.

    Args:
        url: of the database.
        limits: how many connections there may be, and how long one may wait for them.
    """

    def __init__(self, url: str, **limits: int) -> None:
        self.db = Database(url, engine_options=limits)
        self.app = FastAPI()
        self.db.install(self.app)
        self.app.get("/async")(self.wait_on_the_loop)
        self.app.get("/hold")(self.hold)
        self.app.get("/use")(self.use)
        self.app.get("/gate")(self.wait_for_a_gate)
        self.go_on = threading.Event()
        self.holds = threading.Event()

    async def wait_on_the_loop(self) -> None:
        """End at once when cancelled."""
        await asyncio.sleep(FOREVER)

    def hold(self) -> None:
        """Write, and go on when the loop has stopped."""
        self.use()
        self.holds.set()
        self.go_on.wait()

    def use(self) -> None:
        """Write, as soon as that may be."""
        self.db.execute(text("INSERT INTO held VALUES (1)"))

    def wait_for_a_gate(self) -> None:
        """Wait for what only the loop would open, as what waits for the end of a unit does."""
        self.holds.set()
        concurrency.ThreadGate().wait()

    async def run(self, paths: list[str]) -> None:
        """Begin the requests, cancel them, and go when the first has ended."""
        tasks = [asyncio.create_task(call(self.app, "GET", "/async"))]
        for path in paths:
            tasks.append(asyncio.create_task(call(self.app, "GET", path)))
            while not self.holds.is_set():  # noqa: ASYNC110  (a thread sets it)
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)  # the last ones wait by now
        KEPT.extend(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


PATHS = {
    "pool": ["/hold", "/use", "/use"],
    "turn": ["/hold", "/use", "/use"],
    "gate": ["/gate"],
    "work": ["/hold"],
}


def main(state: str, url: str) -> None:
    """Come to the end, with threads that go on."""
    limits = {"pool_size": 1, "max_overflow": 0} if state == "pool" else {"pool_size": 9}
    program = Program(url, pool_timeout=FOREVER, **limits)
    with program.db.scope():
        program.db.execute(text("CREATE TABLE IF NOT EXISTS held (n int)"))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # so that it lives as long as the process
    with suppress(asyncio.CancelledError):
        loop.run_until_complete(program.run(PATHS[state]))
    sys.stdout.write("stopped\n")
    sys.stdout.flush()
    program.go_on.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
