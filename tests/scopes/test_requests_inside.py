"""A request inside another scope is a transaction of its own: told of what it has stored itself.

A batch endpoint, a service that calls another one in the same process, a middleware that has a
scope of its own around the application.
"""

from typing import Any

import pytest
from fastapi import HTTPException
from fastapi.responses import JSONResponse
from sqlalchemy import func, select
from sqlalchemy import insert as core_insert

from tests.asgi import ask
from tests.scopes.stage import ASYNC, Stage, only
from tests.worlds import Item

pytestmark = [pytest.mark.anyio, only(*ASYNC)]
COUNT = select(func.count()).select_from(Item)


async def store(stage: Stage, name: str) -> None:
    """Store a row."""
    await stage.real.execute(core_insert(Item).values(name=name))


def inner_routes(stage: Stage, hooks: list[str]) -> None:
    """Give the application endpoints that others call."""

    @stage.app.post("/raises/{name}")
    async def raises(name: str) -> None:
        await store(stage, name)
        raise HTTPException(409)

    @stage.app.post("/returns/{name}")
    async def returns(name: str) -> JSONResponse:
        await store(stage, name)
        return JSONResponse({}, 409)

    @stage.app.post("/stores/{name}")
    async def stores(name: str) -> None:
        await store(stage, name)
        stage.real.on_commit(lambda: hooks.append(name))

    @stage.app.post("/fails")
    async def fails() -> None:
        raise HTTPException(404)


@pytest.mark.parametrize("path", ["/raises/in", "/returns/in", "/fails"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_request_that_fails_inside_another_one_undoes_its_own_work(
    stage: Stage, path: str, when: str
) -> None:
    """Its status is that of its work, and the other one's is another."""
    inner_routes(stage, [])

    @stage.app.post("/")
    async def outer() -> int:
        if when == "before" and not stage.world.is_sqlite:  # which has one writer at a time
            await store(stage, "out")
        answer = await ask(stage.app, "POST", path)
        if when == "after" or stage.world.is_sqlite:
            await store(stage, "out")
        return answer.status

    seen = await stage.ask()
    assert seen.status == 200
    assert seen.answer.body == (b"404" if path == "/fails" else b"409")
    assert seen.items == ["out"]


async def test_a_request_that_succeeds_inside_another_one_is_stored_at_once(stage: Stage) -> None:
    """Before it is answered, hooks and all, whatever becomes of the other one."""
    hooks: list[str] = []
    inner_routes(stage, hooks)
    there: list[Any] = []

    @stage.app.post("/")
    async def outer() -> None:
        if not stage.world.is_sqlite:  # which has one writer: a POST is taken to be one
            await stage.real.scalar(COUNT)
        answer = await ask(stage.app, "POST", "/stores/in")
        there.append((answer.status, list(hooks), stage.world.items()))
        raise HTTPException(500)

    assert (await stage.ask()).status == 500
    assert there == [(200, ["in"], ["in"])]
    assert stage.world.items() == ["in"]


@pytest.mark.parametrize("how", ["scope", "atomic"])
@pytest.mark.parametrize("form", ["http", "asgi"])
@pytest.mark.parametrize("status", [201, 422])
async def test_a_scope_of_a_middleware_outside_of_ours_decides_nothing(
    stage: Stage, how: str, form: str, status: int
) -> None:
    """It may look who is asking; the request commits before its answer, or rolls back."""
    stage.wire()
    db = stage.real

    @stage.app.post("/store")
    async def endpoint() -> JSONResponse:
        await store(stage, "a")
        return JSONResponse({}, status)

    class Outer:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async with getattr(db, how)():
                await db.scalar(COUNT)
                await self.app(scope, receive, send)

    async def outer(request: Any, call_next: Any) -> Any:
        async with getattr(db, how)():
            await db.scalar(COUNT)
            return await call_next(request)

    if form == "asgi":
        stage.app.add_middleware(Outer)
    else:
        stage.app.middleware("http")(outer)
    seen = await stage.ask(path="/store")
    if stage.world.is_sqlite:  # which has one writer, and that may be the other scope
        assert seen.status == 500
        assert "Do the writing in one scope" in str(seen.answer.error)
    else:
        assert seen.status == status
    assert seen.items == (["a"] if seen.status == 201 else [])
    assert stage.world.items() == seen.items
