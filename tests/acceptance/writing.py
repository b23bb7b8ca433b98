"""A writer, as a program: `python -m tests.acceptance.writing FILE NAME COUNT [SYNCHRONOUS]`.

It stores rows on `sqlite+inline`, some alone and some by the hundred, each time in a transaction of
its own; when that was answered, it says how many rows it has stored.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys

from sqlalchemy import event, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dbscope import AsyncDatabase

TOGETHER = 300  # rows: more than stay on the event loop
AT_ONCE = 4  # tasks


class Base(DeclarativeBase):
    """What is written."""


class Written(Base):
    """One row."""

    __tablename__ = "written"
    id: Mapped[int] = mapped_column(primary_key=True)
    writer: Mapped[str]
    number: Mapped[int]
    of: Mapped[int]  # so many were stored together


def database(path: str, synchronous: str) -> AsyncDatabase:
    """Return the database, as durable as is asked for."""
    db = AsyncDatabase(f"sqlite:///{path}")

    @event.listens_for(db.engine.sync_engine, "connect")
    def on_connect(connection, record):
        connection.execute(f"PRAGMA synchronous = {synchronous}")

    return db


async def write(path: str, name: str, count: int, synchronous: str) -> None:
    """Store so many rows, and say so."""
    db = database(path, synchronous)
    numbers = iter(range(count))
    dice = random.Random(name)

    async def writer() -> None:
        while numbers_now := take(numbers, dice.choice([1, 1, 1, TOGETHER])):
            rows = [{"writer": name, "number": n, "of": len(numbers_now)} for n in numbers_now]
            async with db.scope():
                await db.execute(insert(Written), rows)
            sys.stdout.write(" ".join(map(str, numbers_now)) + "\n")
            sys.stdout.flush()

    await asyncio.gather(*(writer() for _ in range(AT_ONCE)))
    await db.dispose()


def take(numbers, count: int) -> list[int]:
    """Return the next numbers, at most so many."""
    return list(itertools.islice(numbers, count))


if __name__ == "__main__":
    _, path, name, count, *rest = sys.argv
    asyncio.run(write(path, name, int(count), rest[0] if rest else "NORMAL"))
