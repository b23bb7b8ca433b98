"""What a change costs: a plain request on two checkouts of the library, in one run.

    .venv/bin/python -m benchmarks.checkouts BEFORE [--rounds 60] [--requests 50]

BEFORE is the folder of another checkout. Each variant is a process of its own: before, now, and
before once more as the control. They take turns, and tell the CPU time of their requests.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from statistics import median, quantiles

WORKER = """
import asyncio, gc, sys, tempfile
from time import process_time
from fastapi import FastAPI
from sqlalchemy import text
from dbscope import AsyncDatabase

SCOPE = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
         "scheme": "http", "path": "/", "raw_path": b"/", "root_path": "", "query_string": b"",
         "headers": []}

async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}

async def send(message):
    assert message.get("status", 200) == 200

async def main():
    with tempfile.TemporaryDirectory() as folder:
        db = AsyncDatabase(f"sqlite:///{folder}/a.db")
        app = FastAPI()
        db.install(app)

        @app.get("/")
        async def read() -> int:
            return await db.session.scalar(text("SELECT 1"))

        async def requests(times):
            for _ in range(times):
                await app(SCOPE | {"state": {}}, receive, send)

        await requests(300)
        gc.collect()
        gc.freeze()
        for line in sys.stdin:
            gc.disable()
            start = process_time()
            await requests(int(line))
            print(process_time() - start, flush=True)
            gc.enable()
            gc.collect()
        await db.dispose()

asyncio.run(main())
"""


class Variant:
    """A process that has one checkout."""

    def __init__(self, checkout: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=os.environ | {"PYTHONPATH": str(checkout / "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def take(self, requests: int) -> float:
        """Return the microseconds of a request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{requests}\n")
        self.process.stdin.flush()
        seconds: float = json.loads(self.process.stdout.readline())
        return seconds * 1e6 / requests

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def main(before: Path, rounds: int, requests: int) -> None:
    here = Path(__file__).parent.parent
    variants = [Variant(folder) for folder in (before, here, before)]
    taken: list[list[float]] = []
    for _ in range(rounds):
        times = [0.0] * len(variants)
        for place in random.sample(range(len(variants)), len(variants)):
            times[place] = variants[place].take(requests)
        taken.append(times)
    for each in variants:
        each.close()
    print(f"before {median(times[0] for times in taken):.0f} µs CPU a request")
    for name, place in (("now", 1), ("control", 2)):
        ratios = [times[place] / times[0] for times in taken]
        low, middle, high = quantiles(ratios, n=4)
        print(f"{name:8} {middle:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compare a plain request on two checkouts.")
    parser.add_argument("before", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--requests", type=int, default=50)
    given = parser.parse_args()
    main(given.before, given.rounds, given.requests)
