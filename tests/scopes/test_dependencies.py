"""What is said about a route, and the ways to its session. Cases D1, D2 and D18."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from tests.scopes.stage import (
    ALONE,
    ASYNC,
    INSIDE,
    Stage,
    only,
)
from tests.worlds import SYNC, Item

pytestmark = pytest.mark.anyio


# -- D1: a transaction for each request, or not ----------------------------------------------------


@only()
@pytest.mark.parametrize("default", [True, False])
async def test_a_route_says_whether_it_is_atomic_in_either_order(
    stage: Stage, default: bool
) -> None:
    """D1: the decorator may stand above or below the route's; without one the database decides."""
    stage.remake(atomic_requests=default)
    app, db = stage.app, stage.real

    @app.get("/plain")
    async def plain() -> bool:
        return db.in_transaction()

    @app.get("/below/off")
    @db.non_atomic_requests
    async def below_off() -> bool:
        return db.in_transaction()

    @db.non_atomic_requests
    @app.get("/above/off")
    async def above_off() -> bool:
        return db.in_transaction()

    @app.get("/below/on")
    @db.atomic_requests
    def below_on() -> bool:
        return db.in_transaction()

    @db.atomic_requests
    @app.get("/above/on")
    def above_on() -> bool:
        return db.in_transaction()

    router = APIRouter()

    @router.get("/off")
    @db.non_atomic_requests
    async def routed() -> bool:
        return db.in_transaction()

    app.include_router(router, prefix="/included")
    sub = FastAPI()
    sub.include_router(router)
    app.mount("/mounted", sub)
    told = {
        "/plain": default,
        "/below/off": False,
        "/above/off": False,
        "/below/on": True,
        "/above/on": True,
        "/included/off": False,
        "/mounted/off": False,
    }
    bodies = {path: (await stage.ask("GET", path)).answer.body for path in told}
    assert bodies == {path: str(atomic).lower().encode() for path, atomic in told.items()}


@only()
async def test_a_non_atomic_request_keeps_what_it_did_before_it_failed(stage: Stage) -> None:
    """D1: each flush is a transaction of its own, and between statements no connection is held."""
    held: list[int] = []

    def body() -> None:
        stage.insert("a")
        held.append(stage.real.stats()["pool_checked_out"])
        raise HTTPException(409)

    stage.real.non_atomic_requests(stage.route(body))
    seen = await stage.ask()
    assert (seen.status, seen.items, held) == (409, ["a"], [0])


@only("inline", "aiosqlite", "sqlite3")
async def test_what_a_route_says_about_one_database_is_nothing_to_another(
    stage: Stage, tmp_path: Any
) -> None:
    """D1: opted out for the other database, atomic for this one."""
    url = f"sqlite:///{tmp_path / 'other.db'}"
    other = type(stage.real)(url, name="other")
    endpoint = stage.route(lambda: [stage.real.in_transaction(), other.in_transaction()])
    other.non_atomic_requests(endpoint)
    assert (await stage.ask()).answer.body == b"[true,false]"


# -- D18: one session, however it is come by -------------------------------------------------------


@only(*ASYNC)
async def test_all_ways_to_the_session_lead_to_the_same_one(stage: Stage) -> None:
    """D18: `def` dependency in a thread, `Depends(get_session)`, `request.state`, `db.session`."""
    db, app = stage.real, stage.app
    stage.install["state_key"] = "db"

    def of_thread() -> AsyncSession:
        return db.session

    @app.post("/")
    async def endpoint(
        request: Request,
        first: Annotated[AsyncSession, Depends(of_thread)],
        second: Annotated[AsyncSession, Depends(db.get_session)],
    ) -> int:
        sessions = {id(each) for each in (first, second, request.state.db, db.session)}
        first.add(Item(name="a"))
        await second.flush()
        assert await request.state.db.scalar(select(Item.name)) == "a"
        return len(sessions)

    seen = await stage.ask()
    assert (seen.answer.body, seen.items) == (b"1", ["a"])


@only()
async def test_the_session_on_the_state_is_opened_when_somebody_looks(stage: Stage) -> None:
    """D18: `install(state_key=...)` costs nothing where it is not used."""
    stage.install["state_key"] = "db"

    @stage.app.get("/unused")
    async def unused(request: Request) -> bool:
        request.state.mine = 1
        return request.state.mine == 1

    @stage.app.get("/used")
    async def used(request: Request) -> bool:
        return request.state.db is stage.real.session

    assert (await stage.ask("GET", "/unused")).answer.body == b"true"
    assert stage.real.stats()["sessions"] == 0
    assert (await stage.ask("GET", "/used")).answer.body == b"true"
    assert stage.real.stats()["sessions"] == 1


@only(*SYNC)
async def test_a_sync_session_is_shared_by_dependency_and_endpoint(stage: Stage) -> None:
    """D18: two threads of one request, one after the other, use one session."""
    db = stage.real

    def dependency() -> Any:
        db.session.add(Item(name="a"))
        db.session.flush()
        return db.session

    @stage.app.post("/")
    def endpoint(
        first: Annotated[Any, Depends(dependency)], second: Annotated[Any, Depends(db.get_session)]
    ) -> bool:
        return first is second is db.session and db.scalar(select(Item.name)) == "a"

    seen = await stage.ask()
    assert (seen.answer.body, seen.items) == (b"true", ["a"])


@only(*ASYNC, places=(ALONE, INSIDE))
@pytest.mark.parametrize("until", ["function", "request"])
async def test_what_a_dependency_writes_after_its_yield_is_stored(
    stage: Stage, until: Literal["function", "request"]
) -> None:
    """D16: before the response with the request's work, or after it in the unit of the tail."""
    db = stage.real

    async def dependency() -> AsyncIterator[None]:
        yield
        await db.execute(insert(Item).values(name="late"))

    @stage.app.post("/", dependencies=[Depends(dependency, scope=until)])
    async def endpoint() -> None:
        await db.execute(insert(Item).values(name="a"))

    seen = await stage.ask()
    assert seen.items == (["a", "late"] if until == "function" else ["a"])
    assert stage.world.items() == ["a", "late"]


@only(*ASYNC)
async def test_a_real_async_endpoint_needs_no_ceremony(stage: Stage) -> None:
    """D2: await, add, return; the README's example."""
    db = stage.real

    @stage.app.post("/", status_code=201)
    async def create() -> dict[str, Any]:
        item = Item(name="a")
        db.session.add(item)
        await db.session.flush()
        async with db.atomic():
            db.session.add(Item(name="b"))
        return {"id": item.id, "name": item.name}

    seen = await stage.ask()
    assert (seen.status, seen.answer.body) == (201, b'{"id":1,"name":"a"}')
    assert seen.items == ["a", "b"]
