"""The same applications with dbscope."""

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.engine import URL

from benchmarks import by_hand
from benchmarks.model import Item, ItemOut, out
from dbscope import AsyncDatabase, Database

POOL = 5  # connections
ELSEWHERE = 0.05  # seconds


def bare() -> FastAPI:
    """The application that has a database installed, and an endpoint that never touches it."""
    app = by_hand.bare()
    AsyncDatabase("sqlite://").install(app)
    return app


def in_autocommit(url: URL) -> tuple[FastAPI, Callable[[], Any]]:
    return with_async_endpoints(url, atomic_requests=False)


def with_async_endpoints(url: URL, **options: Any) -> tuple[FastAPI, Callable[[], Any]]:
    db = AsyncDatabase(url, **options)
    app = FastAPI()
    db.install(app)

    @app.get("/items/{item_id}")
    async def read(item_id: int) -> ItemOut:
        item = await db.session.get_one(Item, item_id)
        return out(item)

    @app.get("/items")
    async def hundred() -> list[ItemOut]:
        items = await db.session.scalars(select(Item).order_by(Item.id))
        return [out(item) for item in items]

    @app.post("/items/{item_id}")
    async def write(item_id: int) -> ItemOut:
        item = await db.session.get_one(Item, item_id)
        item.count += 1
        return out(item)

    return app, db.dispose


def with_plain_endpoints(url: URL) -> tuple[FastAPI, Callable[[], Any]]:
    db = Database(url)
    app = FastAPI()
    db.install(app)

    @app.get("/items/{item_id}")
    def read(item_id: int) -> ItemOut:
        item = db.session.get_one(Item, item_id)
        return out(item)

    @app.post("/items/{item_id}")
    def write(item_id: int) -> ItemOut:
        item = db.session.get_one(Item, item_id)
        item.count += 1
        return out(item)

    return app, db.dispose


def crowded(url: URL) -> tuple[FastAPI, Callable[[], Any]]:
    """Requests that wait for something else between two reads, each as one transaction."""
    return waiting(url, atomic_requests=True)


def crowded_in_autocommit(url: URL) -> tuple[FastAPI, Callable[[], Any]]:
    """The same, which hold no connection while they wait."""
    return waiting(url, atomic_requests=False)


def waiting(url: URL, *, atomic_requests: bool) -> tuple[FastAPI, Callable[[], Any]]:
    options = {"pool_size": POOL, "max_overflow": 0, "pool_timeout": 60}
    db = AsyncDatabase(url, atomic_requests=atomic_requests, engine_options=options)
    app = FastAPI()
    db.install(app)

    @app.get("/items/{item_id}")
    async def read(item_id: int) -> ItemOut:
        await db.session.get_one(Item, item_id)
        await asyncio.sleep(ELSEWHERE)
        db.session.expunge_all()
        return out(await db.session.get_one(Item, item_id))

    return app, db.dispose
