"""Orders that are placed once, by an application that is killed at COMMIT, or loses its answer."""

from __future__ import annotations

import os
import random
import signal
import uuid
from typing import Any

from fastapi import FastAPI
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dbscope import AsyncDatabase


class Base(DeclarativeBase):
    """One table, which does not know how often a number may come."""


class Order(Base):
    __tablename__ = "once_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    token: Mapped[str] = mapped_column(String(32))


def make() -> FastAPI:
    """Make the application: DATABASE_URL, and what happens at which COMMIT."""
    db = AsyncDatabase(os.environ["DATABASE_URL"])
    app = FastAPI()
    db.install(app, idempotency=True)

    @app.post("/orders/{number}", status_code=201)
    async def place(number: int) -> dict[str, Any]:
        order = Order(number=number, token=uuid.uuid4().hex)
        db.session.add(order)
        await db.session.flush()
        return {"id": order.id, "token": order.token}

    kill_at, cut_every = int(os.environ["KILL_AT"]), int(os.environ["CUT_EVERY"])
    wrong_at_commit(db, kill_at, cut_every)
    return app


def wrong_at_commit(db: AsyncDatabase, kill_at: int, cut_every: int) -> None:
    """Kill this process at that COMMIT, and lose the answer of each so many, before or after it."""
    dialect = db.engine.sync_engine.dialect
    send, dice, seen = dialect.do_commit, random.Random(os.getpid()), [0]

    def commit(connection: Any) -> None:
        seen[0] += 1
        is_killed = seen[0] == kill_at
        is_cut = cut_every > 0 and seen[0] % cut_every == 0
        if not (is_killed or is_cut):
            send(connection)
            return
        if is_after := dice.random() < 0.5:
            send(connection)
        if is_killed:
            os.kill(os.getpid(), signal.SIGKILL)
        if not is_after:
            connection.info["dbscope.unit"].commit.send()
        raise ConnectionError("the answer to COMMIT was lost")

    dialect.do_commit = commit  # type: ignore[method-assign]
