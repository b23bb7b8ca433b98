"""What a watch keeps: memory while a hundred thousand requests go by.

    .venv/bin/python -m benchmarks.watch_memory [--requests 100000]

Every request has another path, another statement text and another row; each tenth fails. The ring
is full after 500 of them. What Python has allocated is counted after a collection (`sys`), and what
the process has (`VmRSS`); it must not grow from the second tenth on.
"""

import argparse
import asyncio
import gc
import sys
import tempfile
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from sqlalchemy import select, text

from benchmarks.ten import SCOPE, Base, Row, receive
from dbscope import AsyncDatabase

TENTHS = 10
GROWTH = 1.02  # of Python's blocks, from the second tenth to the last


def application(folder: str) -> tuple[AsyncDatabase[Any], FastAPI]:
    """Return a database, and an application that reads and writes it."""
    db = AsyncDatabase(f"sqlite:///{Path(folder) / 'watched'}.db")
    app = FastAPI()
    db.install(app)

    @app.get("/{number}")
    async def one(number: int) -> str:
        row = Row(name=f"row {number}")
        db.session.add(row)
        await db.session.flush()
        await db.session.execute(select(Row.name).where(Row.id == row.id))
        await db.session.execute(text(f"SELECT {number} AS column_{number}"))
        if number % 10 == 0:
            raise HTTPException(409)
        await db.session.delete(row)
        return row.name

    return db, app


async def send(_: Any) -> None:
    """Take an answer."""


def resident() -> int:
    """Return the memory that the process has, in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


async def main(requests: int) -> bool:
    blocks: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        db, app = application(folder)
        await db.ensure_schema(Base.metadata)
        db.watch.start()
        for tenth in range(TENTHS):
            for number in range(tenth * requests // TENTHS, (tenth + 1) * requests // TENTHS):
                path = f"/{number}"
                await app(
                    SCOPE | {"state": {}, "path": path, "raw_path": path.encode()}, receive, send
                )
            gc.collect()
            blocks.append(sys.getallocatedblocks())
            done = (tenth + 1) * requests // TENTHS
            print(f"{done:7} requests {blocks[-1]:9} blocks {resident():8} KiB", flush=True)
        assert len(db.watch.recent(1000)) == min(500, requests)
        db.watch.stop()
        await db.dispose()
    return max(blocks[2:]) > blocks[1] * GROWTH


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure what a watch keeps.")
    parser.add_argument("--requests", type=int, default=100_000)
    raise SystemExit(asyncio.run(main(parser.parse_args().requests)))
