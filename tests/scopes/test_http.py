"""`DBSessionMiddleware`: what a request is, beside the truth table. Cases D of the rule book."""

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

import pytest
from fastapi import Depends, HTTPException
from sqlalchemy import func, insert, select, text
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from dbscope import (
    BlocksOutOfOrder,
    DBSessionMiddleware,
    ScopeClosed,
    ScopeMissing,
)
from tests.asgi import ask
from tests.scopes.stage import (
    ALONE,
    ASYNC,
    HOW,
    INSIDE,
    OUTSIDE,
    Cancelling,
    Stage,
    Trouble,
    a_moment_after,
    add_middleware,
    eventually,
    handle,
    handle_conflict,
    only,
)
from tests.worlds import Item, needs_late_check

pytestmark = pytest.mark.anyio


# -- D9, D12: a scope is open already ----------------------------------------------------------


@only(places=(ALONE, INSIDE))
async def test_a_mounted_application_with_its_own_install_joins(stage: Stage) -> None:
    """D9: one unit, one COMMIT, for the dependency of the outer and the endpoint of the inner."""
    sub = Stage(stage.world)
    sub.wire()
    sessions: list[int] = []

    def body() -> None:
        stage.insert("a")
        sessions.append(id(stage.real.session))

    sub.route(body)
    stage.app.mount("/sub", sub.app)
    seen = await stage.ask(path="/sub/")
    assert (seen.status, seen.items) == (200, ["a"])
    assert stage.world.sent().count("COMMIT") == 1
    assert stage.real.stats()["sessions"] == 1


@only("inline", "aiosqlite", "asyncpg", places=(ALONE, INSIDE))
async def test_a_second_middleware_joins_the_first(stage: Stage) -> None:
    """D9: the outermost one decides; here by its own veto, which keeps a 409."""
    stage.route(lambda: (stage.insert("a"), Response(status_code=409))[1])
    stage.wire()
    stage.app.add_middleware(DBSessionMiddleware, commit_veto=None)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (409, ["a"])
    assert stage.world.sent().count("COMMIT") == 1


@needs_late_check
@only(places=(ALONE, INSIDE))
@pytest.mark.parametrize("whose", ["own", "outer"])
async def test_a_commit_that_fails_in_a_mounted_application_is_never_a_success(
    stage: Stage, whose: str
) -> None:
    """D9, D15: the handler of the application that answered is asked; without one it is 500."""
    sub = Stage(stage.world)
    handle_conflict(sub.app if whose == "own" else stage.app)
    sub.wire()
    sub.route(stage.insert_orphan)
    stage.app.mount("/sub", sub.app)
    seen = await stage.ask(path="/sub/")
    assert (seen.status, seen.items) == (409 if whose == "own" else 500, [])


@only("inline", places=(ALONE, INSIDE))
async def test_a_mounted_application_without_install_tells_the_truth_too(stage: Stage) -> None:
    """D4, decision 3: its handler makes a success of an exception; the work is rolled back."""
    sub = Stage(stage.world)
    handle(sub.app, Trouble, 200)
    if stage.around == INSIDE:
        add_middleware(sub.app)

    def body() -> None:
        stage.insert("a")
        raise Trouble

    sub.route(body)
    stage.app.mount("/sub", sub.app)
    seen = await stage.ask(path="/sub/")
    assert (seen.status, seen.items) == (200, [])


@only(*ASYNC)
async def test_a_request_is_no_part_of_a_scope_that_a_test_has_open(stage: Stage) -> None:
    """It commits and rolls back as always, whatever becomes of the scope around it."""
    stage.route(lambda: stage.insert("a"))
    stage.route(lambda: (stage.insert("b"), Response(status_code=500))[1], "/failing")
    async with stage.real.scope():
        assert (await stage.ask()).items == ["a"]
        assert (await stage.ask(path="/failing")).items == ["a"]
        assert await stage.real.scalar(select(func.count()).select_from(Item)) == 1
        stage.real.set_rollback(True)
    assert stage.world.items() == ["a"]


# -- D11: outside of the boundary ------------------------------------------------------------------


@pytest.mark.worlds(drivers=lambda each: each == "inline", places=(ALONE, OUTSIDE, INSIDE))
async def test_a_middleware_outside_has_no_session_before_or_after(stage: Stage) -> None:
    """D11: an error that says so, and not a transaction that leaks silently."""
    refused: list[type[Exception]] = []

    class Outer:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            self.look()
            await self.app(scope, receive, send)
            self.look()

        def look(self) -> None:
            try:
                _ = stage.real.session
            except (ScopeMissing, ScopeClosed) as error:
                refused.append(type(error))

    stage.route(lambda: stage.insert("a"))
    stage.wire()
    stage.app.add_middleware(Outer)
    assert (await stage.ask()).status == 200
    assert refused == [ScopeMissing, ScopeMissing]


@only()
async def test_a_session_that_was_kept_is_refused_after_its_request(stage: Stage) -> None:
    """D11, promise 5: ScopeClosed, for use through the variable; nothing is reopened."""
    kept: list[Any] = []

    def body() -> None:
        stage.insert("a")
        kept.append(stage.db.session)

    def late() -> None:
        with pytest.raises(ScopeClosed):
            kept[0].scalar(text("SELECT 1"))
        with pytest.raises(ScopeClosed):
            kept[0].add(Item(name="b"))
            kept[0].flush()

    stage.route(body)
    stage.route(late, "/late")
    assert (await stage.ask()).status == 200
    assert (await stage.ask(path="/late")).answer.error is None
    assert stage.world.items() == ["a"]


# -- D13, D14, D16: when, and in which order -------------------------------------------------------


@only()
async def test_a_session_that_is_only_taken_sends_nothing(stage: Stage) -> None:
    """D13: neither connection nor BEGIN; an atomic block around nothing is nothing as well."""

    def body() -> None:
        assert stage.db.session is not None
        with stage.db.atomic():
            pass

    stage.route(body)
    assert (await stage.ask()).status == 200
    assert stage.world.statements == []
    assert stage.real.stats()["transactions"] == 0


@only(places=(ALONE, INSIDE))
async def test_a_request_that_only_reads_gives_its_connection_back_before_the_body(
    stage: Stage,
) -> None:
    """D14: also while a slow client takes the body, nothing is checked out."""
    stage.route(lambda: stage.db.scalar(text("SELECT 1")), method="GET")
    seen = await stage.ask("GET")
    assert (seen.status, seen.answer.body, seen.checked_out) == (200, b"1", 0)
    assert stage.real.stats()["transactions"] == 1


@only(places=(ALONE, INSIDE))
async def test_the_order_on_the_wire(stage: Stage) -> None:
    """D16: COMMIT, hooks in their order, start, body, and last the background task."""
    sent = stage.world.statements

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" or message.get("body"):
            sent.append(message["type"])

    def body() -> Response:
        stage.insert("a")
        stage.db.before_commit(stage.task(lambda: sent.append("before commit")))
        stage.db.on_commit(lambda: sent.append("hook 1"))
        stage.db.on_commit(stage.task(lambda: sent.append("hook 2")))
        return JSONResponse({}, background=BackgroundTask(lambda: sent.append("background")))

    stage.route(body)
    stage.wire()
    answer = await ask(stage.app, "POST", "/", on_send=send)
    assert answer.status == 200
    assert sent[-7:] == [
        "before commit",
        "COMMIT",
        "hook 1",
        "hook 2",
        "http.response.start",
        "http.response.body",
        "background",
    ]


@only()
async def test_hooks_of_a_request_that_is_rolled_back(stage: Stage) -> None:
    """C3, C20: never on_commit, once on_rollback, and before the response leaves."""
    ran: list[str] = []

    def body() -> None:
        stage.insert("a")
        stage.db.on_commit(lambda: ran.append("commit"))
        stage.db.on_rollback(lambda: ran.append("rollback"))
        raise HTTPException(409)

    stage.route(body)
    assert (await stage.ask()).status == 409
    assert ran == ["rollback"]


@only(places=(ALONE, INSIDE))
async def test_a_failing_hook_is_logged_and_the_response_stays(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Decision 13: the data is committed, and a 5xx would make clients repeat it."""
    ran: list[str] = []

    def fail() -> None:
        raise Trouble

    def body() -> Response:
        stage.insert("a")
        stage.db.on_commit(fail)
        stage.db.on_commit(stage.task(fail))
        stage.db.on_commit(lambda: ran.append("the last"))
        return Response(status_code=201)

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items, ran) == (201, ["a"], ["the last"])
    assert seen.answer.error is None
    logged = [record for record in caplog.records if record.name == "dbscope"]
    assert [record.levelno for record in logged] == [logging.ERROR] * 2
    assert all(record.exc_info and record.exc_info[0] is Trouble for record in logged)
    assert "POST /" in logged[0].getMessage()
    assert stage.real.stats()["hooks_failed"] == 2


@only()
async def test_a_hook_writes_in_a_transaction_of_its_own(stage: Stage) -> None:
    """C15, decision 5: what it writes is real when the response leaves."""

    def body() -> None:
        stage.insert("a")
        stage.db.on_commit(stage.task(lambda: stage.insert("by the hook")))

    stage.route(body)
    assert (await stage.ask()).items == ["a", "by the hook"]


@only(places=(ALONE, INSIDE))
async def test_a_failing_before_commit_hook_rolls_back(stage: Stage) -> None:
    """G18: its error is the request's, answered by the application's handler; nothing is open."""
    handle(stage.app, Trouble, 418)

    def fail() -> None:
        raise Trouble

    def body() -> None:
        stage.insert("a")
        stage.db.before_commit(stage.task(fail))

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items, seen.checked_out) == (418, [], 0)


# -- D19: cancelled --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("where", ["idle", "in-a-statement"])
@only(*ASYNC, places=(ALONE, INSIDE))
async def test_a_request_cancelled_in_its_handler_is_rolled_back(
    stage: Stage, where: str, how: Cancelling, caplog: pytest.LogCaptureFixture
) -> None:
    """D19, G7: nothing kept, nothing checked out, no lock, and the next request is served."""
    db, (endless, has_begun) = stage.real, stage.endless()
    is_idle = asyncio.Event()

    @stage.app.post("/")
    async def endpoint() -> None:
        await db.execute(insert(Item).values(name="a"))
        if where == "idle":
            is_idle.set()
            await asyncio.sleep(20)
        await db.execute(text(endless))

    stage.route(lambda: stage.insert("next"), "/next")
    when = partial(a_moment_after, is_idle) if where == "idle" else partial(eventually, has_begun)
    await how.run(stage.ask(), when)
    await stage.check_clean()
    assert stage.world.items() == []
    assert (await stage.ask(path="/next")).items == ["next"]
    if where == "idle":
        assert [record for record in caplog.records if record.name == "dbscope"] == []


@only(*ASYNC)
async def test_a_cancellation_that_waits_to_be_delivered_comes_before_commit(stage: Stage) -> None:
    """G7: cancelled while the last statement ran in the handler, and not noticed: rolled back."""
    db = stage.real

    @stage.app.post("/")
    async def endpoint() -> None:
        await db.execute(insert(Item).values(name="a"))
        task.cancel()

    task = asyncio.create_task(stage.ask())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.world.items() == []


# -- no answer ---------------------------------------------------------------------------------


@only()
async def test_what_was_never_answered_is_rolled_back(stage: Stage) -> None:
    """The server says 500 in its place, so nothing may be stored."""

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        if stage.world.is_async:
            await stage.real.execute(insert(Item).values(name="a"))
        else:
            await run_in_threadpool(stage.real.execute, insert(Item).values(name="a"))

    stage.app.mount("/", silent)
    seen = await stage.ask()
    assert (seen.status, stage.world.items()) == (None, [])


# -- what would be told too early ----------------------------------------------------------------


@only(*ASYNC)
async def test_a_scope_that_is_still_open_is_not_answered_for(stage: Stage) -> None:
    """FastAPI leaves a dependency with `yield` when the answer is gone: its COMMIT could fail."""

    async def dependency() -> AsyncIterator[Any]:
        async with stage.real.scope():
            yield stage.real.session

    async def endpoint(session: Annotated[Any, Depends(dependency)]) -> None:
        await session.execute(insert(Item).values(name="a"))

    stage.app.post("/")(endpoint)
    seen = await stage.ask()
    assert seen.status == 500
    assert isinstance(seen.answer.error, BlocksOutOfOrder)
    assert stage.world.items() == []


@only(*ASYNC)
async def test_a_scope_that_has_only_read_may_still_be_open(stage: Stage) -> None:
    """There is nothing to be told of it."""

    async def dependency() -> AsyncIterator[Any]:
        async with stage.real.scope(readonly=True):
            yield stage.real.session

    async def endpoint(session: Annotated[Any, Depends(dependency)]) -> int:
        return len((await session.scalars(select(Item))).all())

    stage.app.post("/")(endpoint)
    assert (await stage.ask()).status == 200


async def test_a_veto_is_asked_and_not_awaited() -> None:
    """A coroutine is true: it would roll back whatever was answered with success."""

    async def veto(*args: Any) -> bool:
        return False

    with pytest.raises(TypeError, match="commit_veto"):
        DBSessionMiddleware(Response(), commit_veto=veto)  # type: ignore[arg-type]
