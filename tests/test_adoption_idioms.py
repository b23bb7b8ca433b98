"""Five ways to write `get_db` that applications have, before and after it is ours.

Each is asked the same: to store, to fail, and to be wrapped by another dependency.
"""
# ruff: noqa: B008, FAST002  (the older way to write a dependency, which most of them have)

from __future__ import annotations

from asyncio import current_task
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, sessionmaker
from starlette.testclient import TestClient

from dbscope import AsyncDatabase, Database
from tests.support.look import Onlooker

INSERT = text("INSERT INTO t VALUES (:name)")


class Own:
    """What an application has before: an engine, and sessions of its own."""

    def __init__(self, url: str) -> None:
        self.engine = create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"))
        self.factory = async_sessionmaker(self.engine, expire_on_commit=False)
        self.plain = create_engine(url)
        self.plain_factory = sessionmaker(self.plain)

    async def dispose(self) -> None:
        await self.engine.dispose()
        self.plain.dispose()


def commits_at_the_end(own: Own) -> Callable[..., Any]:
    """The generator commits; what fails is rolled back (FastAPI's documents, and most of them)."""

    async def get_db() -> AsyncIterator[AsyncSession]:
        async with own.factory() as session:
            try:
                yield session
                await session.commit()
            except Exception:
                await session.rollback()
                raise

    return get_db


def closes_by_hand(own: Own) -> Callable[..., Any]:
    """A plain one, with `SessionLocal()` and `finally`; the endpoint is `def`."""

    def get_db() -> Iterator[Session]:
        session = own.plain_factory()
        try:
            yield session
            session.commit()
        except Exception:
            session.rollback()
            raise
        finally:
            session.close()

    return get_db


def of_the_application(own: Own) -> Callable[..., Any]:
    """From `app.state`, which the lifespan has filled."""

    async def get_db(request: Request) -> AsyncIterator[AsyncSession]:
        async with request.app.state.db.factory() as session, session.begin():
            yield session

    return get_db


def of_the_task(own: Own) -> Callable[..., Any]:
    """A registry with a session for each task."""
    registry = async_scoped_session(own.factory, scopefunc=current_task)

    async def get_db() -> AsyncIterator[Any]:
        try:
            yield registry
            await registry.commit()
        finally:
            await registry.remove()

    return get_db


def iterated(own: Own) -> Callable[..., Any]:
    """A second dependency iterates the first: `async for session in get_db(): yield session`."""
    first = commits_at_the_end(own)

    async def get_db() -> AsyncIterator[AsyncSession]:
        async for session in first():
            yield session

    return get_db


def ours(db: Any) -> Callable[..., Any]:
    return db.get_session  # type: ignore[no-any-return]


def ours_of_the_application(db: Any) -> Callable[..., Any]:
    async def get_db(request: Request) -> Any:
        return request.app.state.db.session

    return get_db


def ours_of_the_task(db: Any) -> Callable[..., Any]:
    async def get_db() -> Any:
        return db.scoped_session

    return get_db


def ours_iterated(db: Any) -> Callable[..., Any]:
    async def first() -> AsyncIterator[Any]:
        yield db.session

    async def get_db() -> AsyncIterator[Any]:
        async for session in first():
            yield session

    return get_db


IDIOMS: dict[str, tuple[Callable[[Own], Any], Callable[[Any], Any]]] = {
    "commits at the end": (commits_at_the_end, ours),
    "closes by hand": (closes_by_hand, ours),
    "of the application": (of_the_application, ours_of_the_application),
    "of the task": (of_the_task, ours_of_the_task),
    "iterated": (iterated, ours_iterated),
}


def routes(app: FastAPI, get_db: Callable[..., Any], *, is_plain: bool) -> None:
    """Add the application's endpoints, which are the same before and after."""
    if is_plain:

        @app.post("/plain/{name}")
        def write_plainly(name: str, fails: bool = False, session: Any = Depends(get_db)) -> None:
            session.execute(INSERT, {"name": name})
            if fails:
                raise HTTPException(409)

        return

    def same(session: Any = Depends(get_db)) -> Any:
        return session

    @app.post("/{name}")
    async def write(
        name: str, fails: bool = False, session: Any = Depends(get_db), other: Any = Depends(same)
    ) -> None:
        assert other is session
        await session.execute(INSERT, {"name": name})
        if fails:
            raise HTTPException(409)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database with a table."""
    if request.param == "sqlite":
        made = f"sqlite:///{tmp_path}/app.db"
    else:
        made = request.getfixturevalue("postgres_url")
    with Onlooker(made) as look:
        look.execute("CREATE TABLE t (name VARCHAR(50))")
    return made


@pytest.mark.parametrize("is_ours", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("idiom", IDIOMS)
def test_an_application_keeps_its_endpoints(idiom: str, is_ours: bool, url: str) -> None:
    """Only `get_db` changes: what succeeds is stored, and what fails is not."""
    is_plain = idiom == "closes by hand"
    own = Own(url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await own.dispose()

    app = FastAPI(lifespan=lifespan)
    before, after = IDIOMS[idiom]
    if is_ours:
        db: Any = Database(url) if is_plain else AsyncDatabase(url)
        db.install(app)
        get_db = after(db)
    else:
        db, get_db = own, before(own)
    app.state.db = db
    routes(app, get_db, is_plain=is_plain)
    path = "/plain" if is_plain else ""
    with TestClient(app) as client:
        assert client.post(f"{path}/cup").status_code == 200
        assert client.post(f"{path}/plate?fails=1").status_code == 409
        assert client.post(f"{path}/fork").status_code == 200
    with Onlooker(url) as look:
        assert look.rows("SELECT name FROM t") == [("cup",), ("fork",)]
