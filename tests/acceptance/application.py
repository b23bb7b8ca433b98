"""The application that the faults are done to; for this process, or `uvicorn`'s and `gunicorn`'s.

Every endpoint does what endpoints do: insert, flush, a nested block, a query, a hook.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

from fastapi import FastAPI
from sqlalchemy import event, func, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dbscope import AsyncDatabase
from tests.asgi import Answer, ask

CLEAN = 10**6  # the rows of clean requests, apart from those of the faults
SLOW_SQLITE = """
WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < :n) SELECT max(x) FROM c
"""


class Base(DeclarativeBase):
    """The one table of the faults."""


class Row(Base):
    __tablename__ = "fault_row"
    # No AUTO_INCREMENT, by which MySQL makes another number of 0.
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n: Mapped[int] = mapped_column(default=0)


class Application:
    """A FastAPI application on a database, and a record of what was committed and promised."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        self.db = AsyncDatabase(url, **options)
        self.app = FastAPI()
        self.hooks: set[int] = set()  # whose hook ran
        self.sent: set[int] = set()  # whose COMMIT was sent
        self._numbers = iter(range(CLEAN, 2 * CLEAN))
        event.listen(self.db.engine.sync_engine, "commit", self._on_commit)
        self.app.post("/work/{i}")(self.work)
        self.app.post("/slow/{milliseconds}/{i}")(self.slow)
        self.app.post("/clean/{i}")(self.clean)
        self.app.get("/rows/{i}")(self.read)

    @property
    def is_sqlite(self) -> bool:
        """Tell whether the database is SQLite."""
        return self.url.startswith("sqlite")

    async def work(self, i: int) -> int:
        """Insert, change in a nested block, read, with a pause that a cancellation may hit."""
        db = self.db
        db.session.add(Row(id=i))
        await db.session.flush()
        db.on_commit(lambda: self.hooks.add(i))
        await asyncio.sleep(random.random() * 0.001)
        async with db.atomic():
            await db.execute(update(Row).where(Row.id == i).values(n=1))
        await db.scalar(select(func.count()).select_from(Row))
        return i

    async def slow(self, milliseconds: int, i: int) -> int:
        """Insert, and then be in a query for long."""
        self.db.session.add(Row(id=i))
        await self.db.session.flush()
        self.db.on_commit(lambda: self.hooks.add(i))
        await self.sleep_in_sql(milliseconds / 1000)
        await self.db.execute(update(Row).where(Row.id == i).values(n=1))
        return i

    async def sleep_in_sql(self, seconds: float) -> None:
        """Make the database be at work for a while."""
        if self.is_sqlite:
            await self.db.execute(text(SLOW_SQLITE), {"n": int(seconds * 5_000_000)})
        else:
            sleep = "SLEEP" if self.url.startswith("mysql") else "pg_sleep"
            await self.db.execute(text(f"SELECT {sleep}(:s)"), {"s": seconds})

    async def clean(self, i: int) -> int:
        """Insert, and read it again."""
        self.db.session.add(Row(id=i, n=i))
        await self.db.session.flush()
        number = await self.db.scalar(select(Row.n).where(Row.id == i))
        assert number == i, f"asked for the row {i}, and got {number}"
        return i

    async def read(self, i: int) -> int | None:
        """Return what is in a row."""
        return await self.db.scalar(select(Row.n).where(Row.id == i))

    async def post(self, path: str, acknowledged: set[int] | None = None) -> Answer:
        """Send a request; its row counts as acknowledged as soon as a 2xx is on its way."""

        def on_start(message: dict[str, Any]) -> None:
            if acknowledged is not None and message["status"] < 400:
                acknowledged.add(int(path.rsplit("/", 1)[1]))

        return await ask(self.app, "POST", path, on_start=on_start)

    def next_clean(self) -> str:
        """Return the path of a request that nothing is wrong with."""
        return f"/clean/{next(self._numbers)}"

    def _on_commit(self, connection: Any) -> None:
        unit = connection.info.get("dbscope.unit")
        path = "" if unit is None else str(unit.scope.name)
        if path.startswith(("POST /work/", "POST /slow/")):
            self.sent.add(int(path.rsplit("/", 1)[1]))


def make() -> FastAPI:
    """Be the factory that a server in another process is told to call."""
    application = Application(os.environ["DATABASE_URL"])
    application.db.install(application.app)
    return application.app
