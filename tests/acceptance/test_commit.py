"""R6: COMMIT itself is rejected. Whoever asked is told so, by the application's own handler."""

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy import UniqueConstraint
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.sessions import SessionMiddleware

from dbscope import AsyncDatabase
from tests.acceptance.drivers import on_postgresql
from tests.asgi import Answer, ask
from tests.support.look import Onlooker


class Base(DeclarativeBase):
    """One table, whose unique values are looked at by COMMIT."""


class Name(Base):
    __tablename__ = "commit_name"
    __table_args__ = (UniqueConstraint("name", deferrable=True, initially="DEFERRED"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Reporter:
    """An outer error-reporting middleware, in the way of Sentry's: it sees what passes."""

    def __init__(self, app: Any, seen: list[BaseException]) -> None:
        self.app = app
        self.seen = seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        except BaseException as error:
            self.seen.append(error)
            raise


class FromElsewhere:
    """Gives each request the header `Origin`, as a browser on another site does."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["headers"] = [*scope["headers"], (b"origin", b"https://elsewhere.example")]
        await self.app(scope, receive, send)


STYLES = ["session", "dependency", "plain", "scope", "atomic"]


def application(db: AsyncDatabase, hooks: list[str]) -> FastAPI:
    """Return an application that stores a taken name, by every style of entry."""
    app = FastAPI()

    def taken(session: Any) -> None:
        session.add(Name(name="taken"))

    @app.post("/session")
    async def session() -> None:
        taken(db.session)
        db.on_commit(lambda: hooks.append("session"))

    @app.post("/dependency")
    async def dependency(session: Annotated[AsyncSession, Depends(db.get_session)]) -> None:
        taken(session)
        db.on_commit(lambda: hooks.append("dependency"))

    @app.post("/plain")
    def plain(session: Annotated[Session, Depends(db.sync.get_session)]) -> None:
        assert session is db.sync.session
        taken(session)
        db.sync.on_commit(lambda: hooks.append("plain"))

    @app.post("/scope")
    async def scope() -> None:
        async with db.scope():
            taken(db.session)
            db.on_commit(lambda: hooks.append("scope"))

    @app.post("/atomic")
    async def atomic() -> None:
        async with db.atomic():
            taken(db.session)
            db.on_commit(lambda: hooks.append("atomic"))

    db.install(app)
    return app


def with_handler(app: FastAPI) -> FastAPI:
    """Let the application say 409 to what the database refuses."""

    @app.exception_handler(IntegrityError)
    async def conflict(request: Request, error: IntegrityError) -> JSONResponse:
        return JSONResponse({"detail": "taken"}, status_code=409)

    return app


async def send_all(db: AsyncDatabase, app: FastAPI, count: int) -> list[Answer]:
    """Take the name; then ask for it again and again, by all styles; nothing may be stored."""
    await db.ensure_schema(Base.metadata)
    async with db.scope():
        db.session.add(Name(name="taken"))
    paths = [f"/{STYLES[i % len(STYLES)]}" for i in range(count)]
    try:
        return [await ask(app, "POST", path) for path in paths]
    finally:
        assert db.stats()["pool_checked_out"] == 0
        await db.dispose()


def check(url: str, hooks: list[str]) -> None:
    """Nothing was stored but the first, no hook ran, nothing is open."""
    assert hooks == []
    with Onlooker(url) as look:
        assert look.scalar("SELECT count(*) FROM commit_name") == 1
        assert look.idle_in_transaction() == []


@on_postgresql
@pytest.mark.timeout(120)
def test_a_rejected_commit_is_never_a_success(url, times, figures):
    """R6: without a handler it is a 500, which an outer error-reporting middleware sees, once."""
    db, hooks, seen = AsyncDatabase(url), [], []
    app = application(db, hooks)
    app.add_middleware(Reporter, seen=seen)
    answers = asyncio.run(send_all(db, app, times(50, 1000)))
    assert {answer.status for answer in answers} == {500}
    assert all(isinstance(answer.error, IntegrityError) for answer in answers)
    assert seen == [answer.error for answer in answers]
    check(url, hooks)
    figures(f"R6 {len(answers)} rejected: 0 2xx, {len(seen)} reported")


@on_postgresql
@pytest.mark.timeout(120)
def test_a_rejected_commit_is_what_the_handler_makes_of_it(url, times, figures):
    """R6: it is the 409 of the application's handler, with the CORS headers of the outside."""
    db, hooks, seen = AsyncDatabase(url), [], []
    app = with_handler(application(db, hooks))
    app.add_middleware(CORSMiddleware, allow_origins=["https://elsewhere.example"])
    app.add_middleware(FromElsewhere)
    app.add_middleware(Reporter, seen=seen)
    answers = asyncio.run(send_all(db, app, times(50, 1000)))
    assert {answer.status for answer in answers} == {409}
    origins = {answer.headers["access-control-allow-origin"] for answer in answers}
    assert origins == {"https://elsewhere.example"}
    assert seen == [], "the handler has dealt with it"
    check(url, hooks)
    figures(f"R6 {len(answers)} rejected: 0 2xx, {len(answers)} times 409 with CORS headers")


@on_postgresql
def test_a_rejected_commit_sets_no_session_cookie(url, times, figures):
    """R6: who logs in by a request that fails is not logged in."""
    db, hooks = AsyncDatabase(url), []
    app = with_handler(application(db, hooks))

    @app.post("/login")
    async def login(request: Request, name: str = "taken") -> None:
        db.session.add(Name(name=name))
        request.session["user"] = name

    app.add_middleware(SessionMiddleware, secret_key="a secret of the tests, long enough")

    async def main() -> list[Answer]:
        await send_all(db, app, len(STYLES))
        return [await ask(app, "POST", "/login") for _ in range(times(20, 1000))]

    async def free() -> Answer:
        answer = await ask(with_name(app, b"name=free"), "POST", "/login")
        await db.dispose()
        return answer

    async def both() -> tuple[list[Answer], Answer]:
        return await main(), await free()

    answers, allowed = asyncio.run(both())
    assert {answer.status for answer in answers} == {409}
    assert [answer for answer in answers if "set-cookie" in answer.headers] == []
    assert (allowed.status, "set-cookie" in allowed.headers) == (200, True)
    assert hooks == []
    figures(f"R6 {len(answers)} rejected logins: 0 cookies")


def with_name(app: Any, query: bytes) -> Any:
    """Return the application, asked with this query."""

    async def ask_with(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "query_string": query}, receive, send)

    return ask_with
