"""What a watch costs: a request with ten statements, with the watch off, on, and off again.

    .venv/bin/python -m benchmarks.watch [--rounds 60] [--driver postgresql+asyncpg]

Each variant is an application of its own with its own database; the control is the first one once
more. CPU time of the process: the thread that looks now and then is in it.
"""

import argparse
import asyncio
from statistics import median
from typing import Any

from fastapi import FastAPI
from sqlalchemy import URL, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.measure import CLOCKS, CONTROL, HAND, OURS, Size, measure
from benchmarks.places import Places
from dbscope import AsyncDatabase
from dbscope.watch.findings import KEPT

BAR = 1.08


class Base(DeclarativeBase):
    """The table of this benchmark."""


class Row(Base):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Subject:
    """An application on a database, watched or not."""

    def __init__(self, url: URL, statements: int, *, watched: bool, keep: int = KEPT) -> None:
        self.db = AsyncDatabase(url)
        self.statements = statements
        self.watched = watched
        self.keep = keep
        self.app = FastAPI()
        self.db.install(self.app)
        self.answers = 0

        @self.app.get("/")
        async def read() -> int:
            found = 0
            for number in range(1, statements + 1):
                rows = await self.db.session.scalars(select(Row).where(Row.id <= number))
                found += len(rows.all())
            return found

    async def prepare(self) -> None:
        await self.db.ensure_schema(Base.metadata)
        async with self.db.scope():
            self.db.session.add_all([Row(name=f"row {number}") for number in range(20)])
        if self.watched:
            self.db.watch.start(keep=self.keep)

    async def request(self, times: int) -> None:
        for _ in range(times):
            await self.app(SCOPE | {"state": {}}, receive, self.send)

    async def send(self, message: Any) -> None:
        self.answers += message.get("status") == 200

    def check(self) -> None:
        assert self.answers
        if self.watched:
            assert len(self.db.watch.recent(1)[0].statements) == self.statements


SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/",
    "raw_path": b"/",
    "root_path": "",
    "query_string": b"",
    "headers": [],
}


async def receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def main(options: argparse.Namespace) -> bool:
    rounds, driver, statements = options.rounds, options.driver, options.statements
    with Places() as places:
        made = [
            Subject(places.new(driver), statements, watched=watched)
            for watched in (False, True, False)
        ]
        for subject in made:
            await subject.prepare()
        result = await measure(made, rounds, CLOCKS[options.clock], Size())
        for subject in made:
            subject.db.watch.stop()
            await subject.db.dispose()
    off, on, again = (result.time(variant) for variant in (HAND, OURS, CONTROL))
    each = median((times[OURS] - times[HAND]) / statements for times in result.rounds)
    print(f"{driver} off {off:7.0f} µs   on {on:7.0f} µs   off again {again:7.0f} µs a request")
    low, high = result.quartiles(OURS)
    print(f"{'':10} on / off {result.ratio(OURS):.3f} ({low:.3f} to {high:.3f})", end="   ")
    print(f"control {result.ratio(CONTROL):.3f}   a statement {each:.1f} µs", flush=True)
    return result.ratio(OURS) > BAR


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure what a watch costs.")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--driver", default="sqlite+inline", help="as in a URL")
    parser.add_argument("--statements", type=int, default=10, help="of a request")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="calls: on a busy machine")
    options = parser.parse_args()
    raise SystemExit(asyncio.run(main(options)))
