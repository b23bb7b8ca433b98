"""Threads that wait for a connection, or for the turn to write, take nobody's place."""

import asyncio
from collections import Counter

import pytest
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from sqlalchemy import text

from dbscope import Database
from tests.asgi import ask

REQUESTS = 100  # more than there are threads, and many more than connections
PLAIN = ["sqlite3", "psycopg sync"]


@pytest.mark.parametrize("database_url", PLAIN, indirect=True)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_waiting_endpoints_leave_threads_to_those_who_have_a_connection(
    database_url: str, method: str
) -> None:
    """R12: FastAPI validates a response in one more thread (fastapi#3205)."""
    db = Database(database_url, engine_options={"pool_size": 5, "max_overflow": 0})
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
