"""Threads that wait for a connection, or for the turn to write, take nobody's place."""

import asyncio
from collections import Counter

import pytest
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from sqlalchemy import text

from dbscope import AsyncDatabase, Database
from tests.asgi import ask
from tests.worlds import DRIVERS, SYNC

REQUESTS = 100  # more than there are threads, and many more than connections
PATIENCE = 50  # seconds: who starves waits longer
PLAIN = ["sqlite3", "psycopg sync"]
# aiosqlite is not among them: its thread goes on connecting, and misses the loop at the end.
ASYNC = [driver for driver in DRIVERS if driver not in SYNC | {"aiosqlite"}]


@pytest.mark.parametrize("database_url", PLAIN, indirect=True)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_waiting_endpoints_leave_threads_to_those_who_have_a_connection(
    database_url: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R12: FastAPI validates a response in one more thread (fastapi#3205)."""
    monkeypatch.setattr("dbscope.backends.sqlite.recipe.BUSY_TIMEOUT", PATIENCE)
    options = {"pool_size": 5, "max_overflow": 0, "pool_timeout": PATIENCE}
    db = Database(database_url, engine_options=options)
    app = FastAPI()
    db.install(app)

    @app.get("/")
    def read() -> int:
        return int(db.scalar(text("SELECT 1")))

    @app.post("/")
    def write() -> int:
        db.execute(text("UPDATE item SET name = 'none' WHERE id = 0"))
        return 1

    async def storm() -> tuple[Counter[int | None], float]:
        answers = await asyncio.gather(*(ask(app, method, "/") for _ in range(REQUESTS)))
        tokens = current_default_thread_limiter().total_tokens
        return Counter(answer.status for answer in answers), tokens

    assert asyncio.run(storm()) == ({200: REQUESTS}, 40)
    assert db.stats()["pool_checked_out"] == 0
    db.dispose()


@pytest.mark.parametrize("database_url", ASYNC, indirect=True)
def test_a_first_connection_may_be_cancelled_at_every_turn_of_the_loop(database_url: str) -> None:
    """SQLAlchemy gets to know the server by it; what leaves is the cancellation, and no other."""

    async def first(db: AsyncDatabase, turns: int) -> None:
        task = asyncio.create_task(db.ping())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await db.dispose()
        assert task.cancelled() or task.exception() is None

    for turns in range(0, 120, 3):
        db = AsyncDatabase(database_url)
        assert db.engine is not None  # the driver is imported here, without a loop
        asyncio.run(first(db, turns))
