"""The applications as one writes them without dbscope, with all the care they deserve."""

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import sessionmaker

from benchmarks.model import Item, ItemOut, out

Sessions = async_sessionmaker[AsyncSession]

PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")
SQLITE: dict[str, Any] = {
    "connect_args": {"isolation_level": None, "timeout": 5},
    "pool_size": 15,  # as many as SQLAlchemy allows anyway, but kept
    "max_overflow": 0,
}


def bare() -> FastAPI:
    """An application without a database."""
    app = FastAPI()

    @app.get("/items/{item_id}")
    async def read(item_id: int) -> ItemOut:
        return ItemOut(id=item_id, name="lamp", count=0)

    return app


def with_async_endpoints(url: URL) -> tuple[FastAPI, Callable[[], Any]]:
    """Endpoints by `async def`, and what is awaited at the end."""
    engine, reading, writing = async_engine(url)
    app = FastAPI()

    @app.get("/items/{item_id}")
    async def read(item_id: int) -> ItemOut:
        async with reading.begin() as session:
            item = await session.get_one(Item, item_id)
            return out(item)

    @app.get("/items")
    async def hundred() -> list[ItemOut]:
        async with reading.begin() as session:
            items = await session.scalars(select(Item).order_by(Item.id))
            return [out(item) for item in items]

    @app.post("/items/{item_id}")
    async def write(item_id: int) -> ItemOut:
        async with writing.begin() as session:
            item = await session.get_one(Item, item_id)
            item.count += 1
            return out(item)

    return app, engine.dispose


def with_a_lock(url: URL) -> tuple[FastAPI, Callable[[], Any]]:
    """An endpoint whose writers wait for each other: SQLite lets them poll, and some in vain."""
    engine, _, writing = async_engine(url)
    app, lock = FastAPI(), asyncio.Lock()

    @app.post("/items/{item_id}")
    async def write(item_id: int) -> ItemOut:
        async with lock, writing.begin() as session:
            item = await session.get_one(Item, item_id)
            item.count += 1
            return out(item)

    return app, engine.dispose


def async_engine(url: URL) -> tuple[AsyncEngine, Sessions, Sessions]:
    """Make an engine, and its sessions that read and that write."""
    engine = create_async_engine(url, **options(url))
    follow_recipe(engine.sync_engine)
    writer = engine.execution_options(begin="BEGIN IMMEDIATE")
    reading, writing = (
        async_sessionmaker(each, expire_on_commit=False) for each in (engine, writer)
    )
    return engine, reading, writing


def with_plain_endpoints(url: URL) -> tuple[FastAPI, Callable[[], Any]]:
    """Endpoints by `def`, which FastAPI runs in a thread, and what is called at the end."""
    engine = create_engine(url, **options(url))
    follow_recipe(engine)
    reading = sessionmaker(engine, expire_on_commit=False)
    writing = sessionmaker(
        engine.execution_options(begin="BEGIN IMMEDIATE"), expire_on_commit=False
    )
    app = FastAPI()

    @app.get("/items/{item_id}")
    def read(item_id: int) -> ItemOut:
        with reading.begin() as session:
            item = session.get_one(Item, item_id)
            return out(item)

    @app.post("/items/{item_id}")
    def write(item_id: int) -> ItemOut:
        with writing.begin() as session:
            item = session.get_one(Item, item_id)
            item.count += 1
            return out(item)

    return app, engine.dispose


def options(url: URL) -> dict[str, Any]:
    return SQLITE if url.get_backend_name() == "sqlite" else {}


def follow_recipe(engine: Engine) -> None:
    """Let SQLite have real transactions: the driver in autocommit, and a BEGIN of our own."""
    if engine.dialect.name != "sqlite":
        return
    usual = "" if engine.dialect.driver == "inline" else "BEGIN"  # which it sends by itself

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:  # noqa: ARG001
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        if begin := connection.get_execution_options().get("begin", usual):
            connection.exec_driver_sql(begin)
