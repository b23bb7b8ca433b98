"""`install` was forgotten, and every block is an `atomic`: a failed request would keep its rows."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dbscope import AsyncDatabase, ScopeMissing
from tests.asgi import ask
from tests.scopes.stage import ALONE, INSIDE, Stage, add_middleware, only
from tests.worlds import Item

pytestmark = pytest.mark.anyio


def storing(stage: Stage, **how: Any) -> Callable[[], Any]:
    """Return a function that stores an item, decorated."""
    db = stage.db
    function = db.awaitable(lambda: stage.insert("a"))
    return stage.real.atomic(**how)(function)


def not_installed(stage: Stage) -> None:
    """Let the application be served as it is."""
    if stage.around == INSIDE:
        add_middleware(stage.app)
    stage.is_wired = True


BLOCKS: list[dict[str, Any]] = [{}, {"retry": 1}, {"durable": True}, {"propagation": "supports"}]


@only("inline", "psycopg async", "sqlite3", "psycopg sync", places=(ALONE, INSIDE))
@pytest.mark.parametrize("how", BLOCKS)
@pytest.mark.parametrize("as_", ["endpoint", "dependency"])
async def test_a_block_in_a_request_without_our_middleware_is_refused(
    stage: Stage, how: Any, as_: str
) -> None:
    """In async code and in a worker thread; the message says what is missing, and for what."""
    store = storing(stage, **how)
    if as_ == "endpoint":
        stage.app.post("/")(store)
    else:
        stage.app.post("/", dependencies=[Depends(store)])(lambda: None)
    not_installed(stage)
    seen = await stage.ask()
    assert isinstance(seen.answer.error, ScopeMissing)
    assert "POST /" in str(seen.answer.error)
    assert "db.install(app)" in str(seen.answer.error)
    assert stage.world.items() == []


@only("inline", "sqlite3")
async def test_who_opens_a_scope_means_it(stage: Stage) -> None:
    """Then each block is what it says it is."""
    store = storing(stage)
    stage.app.post("/")(stage.real.scope(store))
    not_installed(stage)
    assert (await stage.ask()).items == ["a"]


@only("inline", "sqlite3")
async def test_work_after_the_answer_is_no_part_of_the_request(stage: Stage) -> None:
    """It has a transaction of its own, whatever becomes of it."""
    store = storing(stage)

    def endpoint(tasks: BackgroundTasks) -> None:
        tasks.add_task(store)

    stage.app.post("/")(endpoint)
    not_installed(stage)
    assert (await stage.ask()).answer.error is None
    assert stage.world.items() == ["a"]


@only("inline")
async def test_a_middleware_outside_of_ours_may_open_blocks(stage: Stage) -> None:
    """An audit log, which is kept whatever becomes of the request."""
    store = storing(stage)

    async def audit(request: Any, call_next: Any) -> Any:
        await store()
        return await call_next(request)

    stage.route(lambda: None)
    stage.wire()
    stage.app.middleware("http")(audit)
    assert (await stage.ask()).items == ["a"]


async def test_it_needs_no_fastapi(tmp_path: Any) -> None:
    """Any ASGI application is called with a scope; a task beside the request has none."""
    db = AsyncDatabase(f"sqlite:///{tmp_path}/a.db")
    await db.ensure_schema(Item.metadata)

    @db.atomic
    async def store(name: str) -> None:
        db.session.add(Item(name=name))

    async def endpoint(request: Request) -> Response:
        await store("a")
        return Response()

    async def beside(request: Request) -> Response:
        await asyncio.create_task(store("b"))
        return Response()

    app = Starlette(routes=[Route("/", endpoint), Route("/beside", beside)])
    assert isinstance((await ask(app, "GET", "/")).error, ScopeMissing)
    assert (await ask(app, "GET", "/beside")).status == 200
    await db.dispose()
