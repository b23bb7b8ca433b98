"""Wired into an application: `install()`, `lifespan`, and both kinds of database in one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from dbscope import (
    DBSessionMiddleware,
)
from dbscope.unit.current import current
from tests.asgi import ask
from tests.scopes.stage import (
    ALONE,
    ASYNC,
    ASYNC_SERVERS,
    INSIDE,
    SERVERS,
    Stage,
    Trouble,
    eventually,
    handle_conflict,
    only,
)
from tests.worlds import Child, Item, needs_late_check

pytestmark = pytest.mark.anyio


# -- install, lifespan, other kinds of scope -------------------------------------------------------


@only("inline", "aiosqlite", "sqlite3")
async def test_install_is_idempotent(stage: Stage) -> None:
    """One middleware and one disposal, however often it is called."""
    stage.wire()
    for _ in range(3):
        stage.real.install(stage.app)
    ours = [each for each in stage.app.user_middleware if each.cls is DBSessionMiddleware]
    assert len(ours) == 1
    assert len(stage.app.dbscope_installed) == 1  # type: ignore[attr-defined]


@only("inline")
async def test_the_middleware_can_be_wired_by_hand(stage: Stage) -> None:
    """In Starlette's own form: a list of `Middleware`, on a Starlette application."""

    async def endpoint(request: Request) -> Response:
        stage.real.session.add(Item(name="a"))
        raise Trouble

    async def handler(request: Request, error: Exception) -> Response:
        return Response()

    app = Starlette(
        routes=[Route("/", endpoint, methods=["POST"])],
        middleware=[Middleware(DBSessionMiddleware)],
        exception_handlers={Trouble: handler},
    )
    assert (await ask(app, "POST", "/")).status == 200
    assert stage.world.items() == []


@pytest.mark.parametrize("kind", ["lifespan", "of-tomorrow"])
async def test_other_kinds_of_scope_pass_untouched(kind: str) -> None:
    """The middleware opens nothing for them."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send, current.get()))

    async def nothing(*args: Any) -> Any:
        pass

    scope = {"type": kind}
    await DBSessionMiddleware(app)(scope, nothing, nothing)
    assert seen == [(scope, nothing, nothing, None)]


@pytest.mark.parametrize("way", ["install", "lifespan"])
@only(*SERVERS)
async def test_connections_are_closed_at_shutdown(stage: Stage, way: str) -> None:
    """By `db.install(app)`, or by `FastAPI(lifespan=db.lifespan)`; of the companion as well."""
    db, before = stage.real, stage.clients()
    companion = db.sync if stage.world.is_async else db.async_

    def both_are_connected() -> bool:
        # Whom the test before has left in the middle of connecting, the server finds out later.
        return len(stage.clients() - before) == 2

    @asynccontextmanager
    async def users_own(app: Any) -> AsyncIterator[dict[str, str]]:
        yield {"mine": "kept"}
        await stage.ask()  # the database is still there
        await eventually(both_are_connected)

    stage.app = FastAPI(lifespan=users_own if way == "install" else db.lifespan)
    stage.route(lambda: stage.insert("a"))
    stage.wire()
    async with stage.app.router.lifespan_context(stage.app) as state:
        await stage.ask()
        if stage.world.is_async:
            await anyio.to_thread.run_sync(companion.ping)
        else:
            await companion.ping()
        await eventually(both_are_connected)
        assert way == "lifespan" or state == {"mine": "kept"}
    await eventually(lambda: stage.clients() <= before)


# -- both kinds in one application -----------------------------------------------------------------


@needs_late_check
@only(*ASYNC, places=(ALONE, INSIDE))
async def test_def_and_async_endpoints_live_in_one_application(stage: Stage) -> None:
    """Promise 6: `def` endpoints use `db.sync`; the same rules hold for both."""
    db = stage.real
    handle_conflict(stage.app)

    @stage.app.post("/async")
    async def of_async() -> None:
        db.session.add(Item(name="async"))

    @stage.app.post("/def")
    def of_def() -> None:
        db.sync.session.add(Item(name="def"))

    @stage.app.post("/def/failing")
    def of_def_failing() -> None:
        db.sync.session.add(Item(name="failing"))
        raise HTTPException(409)

    @stage.app.post("/def/orphan")
    def of_def_orphan() -> None:
        db.sync.session.add(Child(item_id=999))

    assert (await stage.ask(path="/async")).items == ["async"]
    assert (await stage.ask(path="/def")).items == ["async", "def"]
    assert (await stage.ask(path="/def/failing")).items == ["async", "def"]
    seen = await stage.ask(path="/def/orphan")
    assert (seen.status, seen.lock_is_free) == (409, True)


@only(*ASYNC_SERVERS)
@pytest.mark.parametrize("kept", [True, False])
async def test_one_request_may_use_both_kinds(stage: Stage, kept: bool) -> None:
    """Promise 6: a `def` dependency by `db.sync`, an async endpoint by `db`: one fate."""
    db = stage.real

    def dependency() -> None:
        db.sync.session.add(Item(name="def"))
        db.sync.session.flush()

    @stage.app.post("/", dependencies=[Depends(dependency)])
    async def endpoint() -> Response:
        db.session.add(Item(name="async"))
        await db.session.flush()
        return Response(status_code=200 if kept else 409)

    seen = await stage.ask()
    assert sorted(seen.items or []) == (["async", "def"] if kept else [])
