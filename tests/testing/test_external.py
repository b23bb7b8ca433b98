"""A database on a connection whose transaction the test has begun: SQLAlchemy's recipe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, HTTPException
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from dbscope import (
    AsyncDatabase,
    ConfigurationError,
    Database,
    ScopeClosed,
    TransactionManagementError,
)
from tests.scopes.stage import ASYNC
from tests.testing.conftest import Booth
from tests.worlds import SYNC, Item, is_postgresql

plain = pytest.mark.worlds(drivers=lambda each: each in SYNC)
asynchronous = pytest.mark.worlds(drivers=lambda each: each in ASYNC)
names = select(Item.name).order_by(Item.id)


@contextmanager
def recipe(booth: Booth) -> Iterator[tuple[Database[Any], Session]]:
    """Begin what all of a test is in, with a session of the test."""
    with booth.real.engine.connect() as connection:
        outer = connection.begin()
        how = {"bind": connection, "join_transaction_mode": "create_savepoint"}
        with Session(**how, expire_on_commit=False) as session:
            yield Database(engine=connection), session
        outer.rollback()


@asynccontextmanager
async def async_recipe(booth: Booth) -> AsyncIterator[tuple[AsyncDatabase[Any], AsyncSession]]:
    """The same in async code."""
    async with booth.real.engine.connect() as connection:
        outer = await connection.begin()
        how = {"bind": connection, "join_transaction_mode": "create_savepoint"}
        async with AsyncSession(**how) as session:
            yield AsyncDatabase(engine=connection), session
        await outer.rollback()
    await booth.real.dispose()  # in the event loop of the connection


@plain
def test_what_is_committed_is_a_savepoint_on_it(booth: Booth) -> None:
    """Requests commit and roll back as ever, the test's session sees it, and nothing is left."""
    with recipe(booth) as (db, session):
        app = FastAPI()
        db.install(app)

        @app.post("/{name}")
        def store(name: str) -> None:
            insert_into(db, name)
            if name == "refused":
                raise HTTPException(409)

        client = TestClient(app)
        session.add(Item(name="of the test"))
        session.commit()
        statuses = [client.post(f"/{name}").status_code for name in ("a", "refused", "b")]
        assert statuses == [200, 409, 200]
        with db.scope(), db.atomic():
            insert_into(db, "c")
            db.set_rollback(True)
        with pytest.raises(RuntimeError), db.scope():
            insert_into(db, "d")
            raise RuntimeError
        with db.sandbox():
            client.post("/e")
        assert list(session.scalars(names)) == ["of the test", "a", "b"]
        assert booth.stored() == []
    assert booth.stored() == []


@asynchronous
def test_async_code_has_the_same(booth: Booth) -> None:
    """With a client in the event loop of the connection; the companion is in it, too."""

    async def story() -> None:
        async with async_recipe(booth) as (db, session):
            app = FastAPI()
            db.install(app)

            @app.post("/plain")
            def store_plainly() -> None:
                db.sync.session.add(Item(name="plain"))

            @app.post("/{name}")
            async def store(name: str) -> None:
                db.session.add(Item(name=name))
                if name == "refused":
                    raise HTTPException(409)

            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
                session.add(Item(name="of the test"))
                await session.commit()
                sent = [(await client.post(f"/{n}")).status_code for n in ("a", "refused", "plain")]
            assert sent == [200, 409, 200]
            assert list(await session.scalars(names)) == ["of the test", "a", "plain"]
            assert booth.stored() == []

    asyncio.run(story())
    assert booth.stored() == []


def insert_into(db: Any, name: str) -> None:
    """Store a row, at once."""
    db.session.add(Item(name=name))
    db.session.flush()


@plain
@pytest.mark.parametrize("how", ["not begun", "autocommit", "closed"])
def test_a_connection_without_a_transaction_is_refused(booth: Booth, how: str) -> None:
    """What is committed on it would be stored."""
    with booth.real.engine.connect() as connection:
        if how == "autocommit":
            connection.execution_options(isolation_level="AUTOCOMMIT").begin()
        if how == "closed":
            connection.close()
        with pytest.raises(ConfigurationError, match="there is none"):
            Database(engine=connection)


@plain
def test_it_ends_with_the_transaction(booth: Booth) -> None:
    """What is done afterwards, or left undone until then, would be in somebody else's."""
    with recipe(booth) as (db, _), db.scope():
        insert_into(db, "a")
        db.session.commit()
    with pytest.raises(ScopeClosed, match="a database for each test"), db.scope():
        insert_into(db, "b")
    with pytest.raises(ScopeClosed, match="a database for each test"), db.scope():
        with recipe(booth) as (db, _):
            pass
        insert_into(db, "c")
    assert booth.stored() == []


@pytest.mark.worlds(drivers=lambda each: each in ASYNC and is_postgresql(each))
def test_a_client_that_blocks_the_event_loop_of_the_connection_is_told(
    booth: Booth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits in a test for an application that waits for the test would wait for ever."""
    monkeypatch.setattr("dbscope.testing.external.PATIENCE", 0.1)

    async def story() -> None:
        async with async_recipe(booth) as (db, _):
            app = FastAPI()
            db.install(app)

            @app.get("/")
            async def read() -> list[str]:
                return list(await db.scalars(names))

            with pytest.raises(TransactionManagementError, match="AsyncClient"):
                TestClient(app).get("/")

    asyncio.run(story())


def test_a_connection_of_an_event_loop_is_taken_where_that_runs() -> None:
    """It can be used nowhere else."""
    engine = create_async_engine("sqlite+aiosqlite://")
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(engine.connect().start())
    loop.run_until_complete(connection.begin().start())
    with pytest.raises(ConfigurationError, match="async fixture"):
        AsyncDatabase(engine=connection)
    loop.run_until_complete(connection.close())
    loop.run_until_complete(engine.dispose())
    loop.close()
