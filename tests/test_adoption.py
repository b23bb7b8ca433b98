"""An application that commits by hand adopts dbscope by replacing its `get_db`, and that is all.

Four small applications, as FastAPI's full-stack template and SQLModel's tutorial write them. Their
own tests run twice: with the `get_db` they were written with, and with ours.
"""
# ruff: noqa: B008, FAST002  (the older way to write a dependency, which must work, too)

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlmodel
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlmodel.ext.asyncio.session import AsyncSession as AsyncSQLModelSession
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from dbscope import AsyncDatabase, Database
from tests.support.look import Onlooker

GetDB = Callable[[], Any]


# -- the models ------------------------------------------------------------------------------------


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)


class Hero(sqlmodel.SQLModel, table=True):
    __tablename__ = "users"
    metadata = sqlmodel.MetaData()
    id: int | None = sqlmodel.Field(default=None, primary_key=True)
    email: str = sqlmodel.Field(unique=True)


class UserIn(BaseModel):
    email: str


class UserOut(UserIn):
    model_config = ConfigDict(from_attributes=True)
    id: int


# -- plain SQLAlchemy, sync ------------------------------------------------------------------------


def create_user(session: Session, user: UserIn) -> User:
    row = User(email=user.email)
    session.add(row)
    session.commit()
    session.refresh(row)
    return row


def plain_api(get_db: GetDB) -> APIRouter:
    router = APIRouter()

    @router.post("/users", status_code=201, response_model=UserOut)
    def create(user: UserIn, session: Session = Depends(get_db)) -> Any:
        found = session.scalars(select(User).where(User.email == user.email)).first()
        if found is not None:
            raise HTTPException(409, "The email is taken")
        return create_user(session, user)

    @router.get("/users", response_model=list[UserOut])
    def read(session: Session = Depends(get_db)) -> Any:
        return session.scalars(select(User).order_by(User.id)).all()

    @router.put("/users/{id_}", response_model=UserOut)
    def update(id_: int, user: UserIn, session: Session = Depends(get_db)) -> Any:
        row = session.get(User, id_)
        if row is None:
            raise HTTPException(404)
        row.email = user.email
        try:
            session.commit()
        except IntegrityError:
            session.rollback()
            raise HTTPException(409, f"Still {row.email}") from None
        session.refresh(row)
        return row

    @router.delete("/users/{id_}", status_code=204)
    def delete(id_: int, session: Session = Depends(get_db)) -> None:
        session.delete(session.get_one(User, id_))
        session.commit()

    @router.post("/import")
    def import_users(users: list[UserIn], session: Session = Depends(get_db)) -> int:
        for user in users:
            create_user(session, user)
        session.add(User(email="never"))
        session.flush()
        raise RuntimeError("the file ends in the middle")

    return router


def plain_get_db(engine: Engine) -> GetDB:
    factory = sessionmaker(engine, autoflush=False)

    def get_db() -> Iterator[Session]:
        session = factory()
        try:
            yield session
        finally:
            session.close()

    return get_db


# -- plain SQLAlchemy, async -----------------------------------------------------------------------


async def create_user_async(session: AsyncSession, user: UserIn) -> User:
    row = User(email=user.email)
    session.add(row)
    await session.commit()
    await session.refresh(row)
    return row


def async_api(get_db: GetDB) -> APIRouter:
    router = APIRouter()

    @router.post("/users", status_code=201, response_model=UserOut)
    async def create(user: UserIn, session: AsyncSession = Depends(get_db)) -> Any:
        found = await session.scalars(select(User).where(User.email == user.email))
        if found.first() is not None:
            raise HTTPException(409, "The email is taken")
        return await create_user_async(session, user)

    @router.get("/users", response_model=list[UserOut])
    async def read(session: AsyncSession = Depends(get_db)) -> Any:
        return (await session.scalars(select(User).order_by(User.id))).all()

    @router.put("/users/{id_}", response_model=UserOut)
    async def update(id_: int, user: UserIn, session: AsyncSession = Depends(get_db)) -> Any:
        row = await session.get(User, id_)
        if row is None:
            raise HTTPException(404)
        row.email = user.email
        try:
            await session.commit()
        except IntegrityError:
            await session.rollback()
            await session.refresh(row)
            raise HTTPException(409, f"Still {row.email}") from None
        await session.refresh(row)
        return row

    @router.delete("/users/{id_}", status_code=204)
    async def delete(id_: int, session: AsyncSession = Depends(get_db)) -> None:
        await session.delete(await session.get_one(User, id_))
        await session.commit()

    @router.post("/import")
    async def import_users(users: list[UserIn], session: AsyncSession = Depends(get_db)) -> int:
        for user in users:
            await create_user_async(session, user)
        session.add(User(email="never"))
        await session.flush()
        raise RuntimeError("the file ends in the middle")

    return router


def async_get_db(engine: AsyncEngine) -> GetDB:
    factory = async_sessionmaker(engine, expire_on_commit=False)

    async def get_db() -> AsyncIterator[AsyncSession]:
        async with factory() as session:
            yield session

    return get_db


# -- SQLModel, sync --------------------------------------------------------------------------------


def sqlmodel_api(get_db: GetDB) -> APIRouter:
    router = APIRouter()

    @router.post("/users", status_code=201, response_model=UserOut)
    def create(user: UserIn, session: sqlmodel.Session = Depends(get_db)) -> Any:
        if session.exec(sqlmodel.select(Hero).where(Hero.email == user.email)).first():
            raise HTTPException(409, "The email is taken")
        hero = Hero.model_validate(user.model_dump())
        session.add(hero)
        session.commit()
        session.refresh(hero)
        return hero

    @router.get("/users", response_model=list[UserOut])
    def read(session: sqlmodel.Session = Depends(get_db)) -> Any:
        return session.exec(sqlmodel.select(Hero).order_by(Hero.id)).all()

    @router.put("/users/{id_}", response_model=UserOut)
    def update(id_: int, user: UserIn, session: sqlmodel.Session = Depends(get_db)) -> Any:
        hero = session.get(Hero, id_)
        if not hero:
            raise HTTPException(404)
        hero.sqlmodel_update(user.model_dump(exclude_unset=True))
        session.add(hero)
        try:
            session.commit()
        except IntegrityError:
            session.rollback()
            raise HTTPException(409, f"Still {hero.email}") from None
        session.refresh(hero)
        return hero

    @router.delete("/users/{id_}", status_code=204)
    def delete(id_: int, session: sqlmodel.Session = Depends(get_db)) -> None:
        session.delete(session.exec(sqlmodel.select(Hero).where(Hero.id == id_)).one())
        session.commit()

    @router.post("/import")
    def import_users(users: list[UserIn], session: sqlmodel.Session = Depends(get_db)) -> int:
        for user in users:
            session.add(Hero(email=user.email))
            session.commit()
        session.add(Hero(email="never"))
        session.flush()
        raise RuntimeError("the file ends in the middle")

    return router


def sqlmodel_get_db(engine: Engine) -> GetDB:
    def get_db() -> Iterator[sqlmodel.Session]:
        with sqlmodel.Session(engine) as session:
            yield session

    return get_db


# -- SQLModel, async -------------------------------------------------------------------------------


def async_sqlmodel_api(get_db: GetDB) -> APIRouter:
    router = APIRouter()

    @router.post("/users", status_code=201, response_model=UserOut)
    async def create(user: UserIn, session: AsyncSQLModelSession = Depends(get_db)) -> Any:
        found = await session.exec(sqlmodel.select(Hero).where(Hero.email == user.email))
        if found.first():
            raise HTTPException(409, "The email is taken")
        hero = Hero.model_validate(user.model_dump())
        session.add(hero)
        await session.commit()
        await session.refresh(hero)
        return hero

    @router.get("/users", response_model=list[UserOut])
    async def read(session: AsyncSQLModelSession = Depends(get_db)) -> Any:
        return (await session.exec(sqlmodel.select(Hero).order_by(Hero.id))).all()

    @router.put("/users/{id_}", response_model=UserOut)
    async def update(
        id_: int, user: UserIn, session: AsyncSQLModelSession = Depends(get_db)
    ) -> Any:
        hero = await session.get(Hero, id_)
        if not hero:
            raise HTTPException(404)
        hero.sqlmodel_update(user.model_dump(exclude_unset=True))
        try:
            await session.commit()
        except IntegrityError:
            await session.rollback()
            await session.refresh(hero)
            raise HTTPException(409, f"Still {hero.email}") from None
        await session.refresh(hero)
        return hero

    @router.delete("/users/{id_}", status_code=204)
    async def delete(id_: int, session: AsyncSQLModelSession = Depends(get_db)) -> None:
        found = await session.exec(sqlmodel.select(Hero).where(Hero.id == id_))
        await session.delete(found.one())
        await session.commit()

    @router.post("/import")
    async def import_users(
        users: list[UserIn], session: AsyncSQLModelSession = Depends(get_db)
    ) -> int:
        for user in users:
            session.add(Hero(email=user.email))
            await session.commit()
        session.add(Hero(email="never"))
        await session.flush()
        raise RuntimeError("the file ends in the middle")

    return router


def async_sqlmodel_get_db(engine: AsyncEngine) -> GetDB:
    async def get_db() -> AsyncIterator[AsyncSQLModelSession]:
        async with AsyncSQLModelSession(engine, expire_on_commit=False) as session:
            yield session

    return get_db


# -- the two ways to run them ----------------------------------------------------------------------


@dataclass
class Flavour:
    """One of the applications: what it is made of, before and after."""

    api: Callable[[GetDB], APIRouter]
    get_db: Callable[[Any], GetDB]
    database: Callable[[str], Any]
    is_async: bool


FLAVOURS = {
    "sqlalchemy sync": Flavour(plain_api, plain_get_db, Database, is_async=False),
    "sqlalchemy async": Flavour(async_api, async_get_db, AsyncDatabase, is_async=True),
    "sqlmodel sync": Flavour(
        sqlmodel_api,
        sqlmodel_get_db,
        lambda url: Database(url, session_class=sqlmodel.Session),
        is_async=False,
    ),
    "sqlmodel async": Flavour(
        async_sqlmodel_api,
        async_sqlmodel_get_db,
        lambda url: AsyncDatabase(url, session_class=AsyncSQLModelSession),
        is_async=True,
    ),
}
BEFORE, AFTER = "its own get_db", "db.get_session"


def before(flavour: Flavour, url: str) -> FastAPI:
    """Return the application as it was written."""
    if flavour.is_async:
        engine: Any = create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"))
    else:
        engine = create_engine(url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        disposed = engine.dispose()
        if flavour.is_async:
            await disposed

    app = FastAPI(lifespan=lifespan)
    app.include_router(flavour.api(flavour.get_db(engine)))
    return app


def after(flavour: Flavour, url: str) -> FastAPI:
    """Return the application as it adopts dbscope: two lines."""
    app = FastAPI()
    db = flavour.database(url)
    db.install(app)
    app.include_router(flavour.api(db.get_session))
    return app


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database with the table."""
    if request.param == "sqlite":
        made = f"sqlite:///{tmp_path}/app.db"
    else:
        made = request.getfixturevalue("postgres_url")
    engine = create_engine(made)
    Base.metadata.create_all(engine)
    engine.dispose()
    return made


@pytest.fixture(params=[BEFORE, AFTER])
def how(request: pytest.FixtureRequest) -> str:
    """Each of the two ways."""
    return request.param


@pytest.fixture(params=FLAVOURS)
def client(request: pytest.FixtureRequest, how: str, url: str) -> Iterator[TestClient]:
    """Return a client of the application, which has started."""
    app = (before if how == BEFORE else after)(FLAVOURS[request.param], url)

    @app.exception_handler(RuntimeError)
    def on_error(request: Any, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 500)

    with TestClient(app, raise_server_exceptions=False) as started:
        yield started


def emails(url: str) -> list[str]:
    """Return what is stored, as another client sees it."""
    with Onlooker(url) as onlooker:
        return [email for (email,) in onlooker.rows("SELECT email FROM users ORDER BY id")]


# -- the tests that the application has of its own -------------------------------------------------


def test_create_and_read(client: TestClient, url: str) -> None:
    created = client.post("/users", json={"email": "ann@example.org"})
    assert (created.status_code, created.json()["id"]) == (201, 1)
    assert client.get("/users").json() == [{"id": 1, "email": "ann@example.org"}]
    assert client.post("/users", json={"email": "ann@example.org"}).status_code == 409
    assert emails(url) == ["ann@example.org"]


def test_update_and_delete(client: TestClient, url: str) -> None:
    for email in ("ann@example.org", "bob@example.org"):
        client.post("/users", json={"email": email})
    assert client.put("/users/1", json={"email": "new@example.org"}).json()["id"] == 1
    assert client.put("/users/9", json={"email": "x@example.org"}).status_code == 404
    assert client.delete("/users/2").status_code == 204
    assert emails(url) == ["new@example.org"]


def test_a_conflict_is_rolled_back_and_answered(client: TestClient, url: str) -> None:
    for email in ("ann@example.org", "bob@example.org"):
        client.post("/users", json={"email": email})
    answer = client.put("/users/2", json={"email": "ann@example.org"})
    assert (answer.status_code, answer.json()["detail"]) == (409, "Still bob@example.org")
    assert emails(url) == ["ann@example.org", "bob@example.org"]
    assert client.put("/users/2", json={"email": "eve@example.org"}).status_code == 200


def test_what_was_committed_before_a_failure_stays(client: TestClient, url: str) -> None:
    """Exactly that: two commits, then a flush that is not committed, then an exception."""
    users = [{"email": "ann@example.org"}, {"email": "bob@example.org"}]
    assert client.post("/import", json=users).status_code == 500
    assert emails(url) == ["ann@example.org", "bob@example.org"]
    assert len(client.get("/users").json()) == 2
