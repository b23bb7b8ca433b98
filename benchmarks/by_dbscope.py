"""The same applications with dbscope."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from sqlalchemy.engine import URL

from benchmarks import by_hand
from benchmarks.model import Item, ItemOut, out
from dbscope import AsyncDatabase, Database


def bare() -> FastAPI:
    """The application that has a database installed, and an endpoint that never touches it."""
    app = by_hand.bare()
    AsyncDatabase("sqlite://").install(app)
    return app


def with_async_endpoints(url: URL) -> tuple[FastAPI, Callable[[], Any]]:
    db = AsyncDatabase(url)
    app = FastAPI()
    db.install(app)

    @app.get("/items/{item_id}")
    async def read(item_id: int) -> ItemOut:
        item = await db.session.get_one(Item, item_id)
        return out(item)

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
