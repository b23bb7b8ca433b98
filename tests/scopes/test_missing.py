"""Where there is no scope though somebody has thought of it: the message names the cause."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from dbscope import AsyncDatabase, ConfigurationError, Database, ScopeMissing
from tests.scopes.stage import ALONE, ASYNC, INSIDE, Stage, only
from tests.worlds import SYNC, Item

pytestmark = pytest.mark.anyio


def missing(database: Any) -> str:
    """Use the database where it cannot be, and return what is said about that."""
    with pytest.raises(ScopeMissing) as raised:
        database.session  # noqa: B018
    return str(raised.value)


@only("inline", "sqlite3")
async def test_at_the_start_of_an_application_there_is_no_request(stage: Stage) -> None:
    """Nor in what its lifespan has begun."""
    told: list[str] = []
    original = stage.app.router.lifespan_context

    def lifespan(app: Any) -> Any:
        told.append(missing(stage.real))
        return original(app)

    stage.app.router.lifespan_context = lifespan
    stage.wire()
    sent: list[Any] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await stage.app({"type": "lifespan", "app": stage.app, "state": {}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert "start and the end" in told[0]


def in_a_thread(work: Callable[[], Any]) -> Any:
    """Let a bare thread do it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@pytest.mark.parametrize(
    "code",
    ["async def endpoint(session=db.session): ...", "class Items:\n    session = db.session"],
    ids=["default", "class"],
)
@pytest.mark.parametrize("kind", [Database, AsyncDatabase])
def test_a_session_that_is_taken_at_the_import_is_told_so(kind: type, code: str) -> None:
    """As the default of a parameter, or in the body of a class."""
    with pytest.raises(ScopeMissing, match="runs when that is imported: take the session in"):
        exec(compile(code, __file__, "exec"), {"db": kind("sqlite://")})


@pytest.mark.parametrize("kind", [Database, AsyncDatabase])
@pytest.mark.parametrize("is_async", [False, True])
def test_an_application_without_install_is_told_so(kind: type, is_async: bool) -> None:
    """Also where a thread serves it, as TestClient does: it has left no context behind."""
    db, app = kind("sqlite://"), FastAPI()

    @app.get("/async")
    async def endpoint() -> None:
        db.session  # noqa: B018

    @app.get("/plain")
    def plain() -> None:
        db.session  # noqa: B018

    with TestClient(app) as client, pytest.raises(ScopeMissing) as raised:
        client.get("/async" if is_async else "/plain")
    assert "served here, by an application without `install`" in str(raised.value)
    assert "thread" not in str(raised.value)


@only("inline", "sqlite3")
async def test_a_thread_without_the_context_of_the_request_is_told_so(stage: Stage) -> None:
    """What takes the context along has the request's session."""
    db = stage.real

    def body() -> list[str]:
        insert_here = contextvars.copy_context().run
        in_a_thread(partial(insert_here, lambda: db.session.add(Item(name="a"))))
        return [in_a_thread(partial(missing, db))]

    stage.route(body)
    told = (await stage.ask()).answer.body.decode()
    assert "without the context of who began it" in told
    assert "middleware" not in told
    assert stage.world.items() == ["a"]


class Outer:
    """A middleware that was added later, and uses the database."""

    def __init__(self, app: Any, stage: Stage, told: list[str]) -> None:
        self.app, self.stage, self.told = app, stage, told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Use the database before the request has its scope."""
        self.told.append(missing(self.stage.real))
        await self.app(scope, receive, send)


@only("inline", "sqlite3")
async def test_a_middleware_that_was_added_later_is_outside(stage: Stage) -> None:
    """It says to call `install` last."""
    told: list[str] = []
    stage.route(lambda: None)
    stage.wire()
    stage.app.add_middleware(Outer, stage=stage, told=told)
    assert (await stage.ask()).status == 200
    assert "call `install` last" in told[0]


def test_where_nothing_was_installed_nothing_is_said_of_it() -> None:
    """The two ways to have a scope."""
    told = missing(AsyncDatabase("sqlite://"))
    assert "added later" not in told
    assert "db.install(app)" in told


async def test_a_scope_of_a_fixture_in_another_context_is_named() -> None:
    """pytest-asyncio before 0.25: a fixture has another context than its test."""
    db = AsyncDatabase("sqlite://")

    async def fixture() -> AsyncIterator[None]:
        async with db.scope():
            yield

    generator = fixture()
    await asyncio.create_task(anext(generator))  # type: ignore[arg-type]
    told = missing(db)
    assert "test_missing.py" in told
    assert "pytest-asyncio before 0.25" in told
    await asyncio.create_task(anext(generator, None))  # type: ignore[arg-type]
    assert "fixture" not in missing(db)


def test_so_is_a_plain_one() -> None:
    """Whoever runs it in another context."""
    db = Database("sqlite://")

    def fixture() -> Iterator[None]:
        with db.scope():
            yield

    generator = fixture()
    contextvars.copy_context().run(next, generator)
    assert "test_missing.py" in missing(db)
    generator.close()


# -- an override of the session --------------------------------------------------------------------


@only(places=(ALONE, INSIDE))
@pytest.mark.parametrize("whose", ["own", "companion"])
async def test_an_overridden_session_beside_the_database_is_an_error(
    stage: Stage, tmp_path: Any, whose: str
) -> None:
    """The endpoint would write to the test's database, and what it calls to the real one."""
    other = type(stage.real)(f"sqlite:///{tmp_path / 'other.db'}")
    stage.app.dependency_overrides[stage.real.get_session] = other.get_session
    companion = stage.real.sync if stage.world.is_async else stage.real.async_
    used = stage.real if whose == "own" else companion

    @stage.app.post("/")
    async def endpoint(session: Annotated[Any, Depends(stage.real.get_session)]) -> None:
        session.add(Item(name="a"))
        used.session.add(Item(name="b"))

    seen = await stage.ask()
    assert isinstance(seen.answer.error, ConfigurationError)
    assert "dependency_overrides" in str(seen.answer.error)
    assert (seen.status, stage.world.items()) == (500, [])


@only(places=(ALONE, INSIDE))
async def test_an_override_that_gives_the_session_of_the_request_is_none(stage: Stage) -> None:
    """Both are one."""
    db = stage.real

    async def same() -> Any:
        return db.session

    def plain() -> Any:
        return db.session

    same_session: list[bool] = []
    db_session = Depends(db.get_session)
    stage.app.dependency_overrides[db.get_session] = plain if type(db) is Database else same

    @stage.app.post("/")
    async def endpoint(session: Annotated[Any, db_session]) -> None:
        same_session.append(session is db.session)

    assert (await stage.ask()).status == 200
    assert same_session == [True]


@only(*ASYNC, *SYNC, places=(ALONE,))
async def test_an_override_of_another_database_says_nothing_about_this_one(
    stage: Stage, tmp_path: Any
) -> None:
    """Nor one of something else."""
    other = type(stage.real)(f"sqlite:///{tmp_path / 'other.db'}")
    stage.app.dependency_overrides[other.get_session] = lambda: None
    stage.app.dependency_overrides[len] = lambda: None
    stage.route(lambda: list(stage.db.scalars(select(Item.name))))
    assert (await stage.ask()).answer.body == b"[]"
