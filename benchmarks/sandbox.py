"""What a sandboxed test costs: a request that stores a row, in a sandbox and without.

    .venv/bin/python -m benchmarks.sandbox [--rounds 60] [--driver postgresql+asyncpg]

Each variant is an application with a PostgreSQL database of its own; the control is the one without
a sandbox once more. A request is a POST by the ASGI protocol, so no time of a client is in it.
"""

import argparse
import asyncio
from statistics import median, quantiles
from typing import Any

from fastapi import FastAPI
from sqlalchemy import URL, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.measure import CLOCKS, CONTROL, HAND, OURS, Size, measure
from benchmarks.places import Places
from benchmarks.ten import SCOPE, receive
from dbscope import AsyncDatabase

BAR = 3000  # µs, the median of a sandboxed test


class Base(DeclarativeBase):
    """The table of this benchmark."""


class Row(Base):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Subject:
    """An application on a database; each request of it is a test in a sandbox, or is not."""

    def __init__(self, url: URL, *, sandboxed: bool) -> None:
        self.db = AsyncDatabase(url)
        self.sandboxed = sandboxed
        self.app = FastAPI()
        self.db.install(self.app)
        self.sent = self.stored = 0

        @self.app.post("/")
        async def store() -> None:
            self.db.session.add(Row(name="cup"))

    async def prepare(self) -> None:
        await self.db.ensure_schema(Base.metadata)

    async def request(self, times: int) -> None:
        for _ in range(times):
            if self.sandboxed:
                async with self.db.sandbox():
                    await self.app(SCOPE | {"method": "POST", "state": {}}, receive, self.send)
            else:
                await self.app(SCOPE | {"method": "POST", "state": {}}, receive, self.send)
        self.sent += times

    async def send(self, message: Any) -> None:
        self.stored += message.get("status") == 200

    def check(self) -> None:
        assert self.stored == self.sent

    async def rows(self) -> int:
        async with self.db.scope():
            return await self.db.scalar(select(func.count(Row.id))) or 0


async def main(options: argparse.Namespace) -> bool:
    with Places() as places:
        made = [
            Subject(places.new(options.driver), sandboxed=variant == OURS) for variant in range(3)
        ]
        for subject in made:
            await subject.prepare()
        clock = CLOCKS[options.clock]
        result = await measure(made, options.rounds, clock, Size(requests=5, warm_up=100))
        left = [await subject.rows() for subject in made]
        for subject in made:
            await subject.db.dispose()
    assert left == [made[0].sent, 0, made[2].sent], left
    times = [times[OURS] for times in result.rounds]
    low, _, high = quantiles(times, n=4)
    bare, boxed, again = (result.time(variant) for variant in (HAND, OURS, CONTROL))
    print(f"{options.driver}: a test of one request {bare:.0f} µs, in a sandbox {boxed:.0f} µs")
    print(f"   ({low:.0f} to {high:.0f}, least {min(times):.0f}), without once more {again:.0f} µs")
    added = median(times[OURS] - times[HAND] for times in result.rounds)
    print(
        f"   added by the sandbox {added:.0f} µs, control {result.ratio(CONTROL):.3f}", flush=True
    )
    return boxed > BAR


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure what a sandboxed test costs.")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: on a busy machine")
    parser.add_argument("--driver", default="postgresql+psycopg", help="or postgresql+asyncpg")
    raise SystemExit(asyncio.run(main(parser.parse_args())))
