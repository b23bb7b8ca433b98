"""`db.background()`: behind the response, in its order, each in a scope of its own, or never."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import pytest
from fastapi import BackgroundTasks, HTTPException, WebSocket
from sqlalchemy import insert as core_insert
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.util import greenlet_spawn
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, Response, StreamingResponse

from dbscope import DurableError, ScopeMissing
from tests.scopes.stage import (
    ALONE,
    ASYNC,
    INSIDE,
    OUTSIDE,
    Stage,
    Trouble,
    eventually,
    handle_conflict,
    only,
    swallowed,
    work,
)
from tests.sockets import Socket
from tests.worlds import SYNC, Both, Item, World, insert, needs_late_check

pytestmark = pytest.mark.anyio

EVERYWHERE = (ALONE, OUTSIDE, INSIDE)


def behind(stage: Stage, name: str, of: Callable[[], object] = lambda: None) -> None:
    """Leave it to be stored behind the response, in a function of the database's kind."""

    def work() -> None:
        stage.insert(name)
        of()

    stage.real.background(stage.task(work))


def fail() -> None:
    """Fail."""
    raise Trouble


# -- requests --------------------------------------------------------------------------------------


@only(places=EVERYWHERE)
async def test_it_runs_when_the_answer_has_left_and_the_request_is_stored(stage: Stage) -> None:
    """With what it was called with, in its order, and each is stored before the next begins."""
    seen: list[list[str]] = []

    def work(name: str, *, more: str) -> None:
        seen.append(stage.world.items())
        stage.insert(name + more)

    async def work_async(name: str, *, more: str) -> None:
        await greenlet_spawn(partial(work, name, more=more))

    def body() -> None:
        stage.insert("a")
        for name in "bc":
            stage.real.background(work_async if stage.world.is_async else work, name, more="!")

    stage.route(body)
    answered = await stage.ask()
    assert (answered.status, answered.items) == (200, ["a"])
    assert answered.answer.is_complete
    await eventually(lambda: stage.world.items() == ["a", "b!", "c!"])
    assert seen == [["a"], ["a", "b!"]]


@only(places=EVERYWHERE)
async def test_one_that_fails_undoes_only_its_own_and_is_logged(stage: Stage, caplog: Any) -> None:
    """Not its neighbours', and not the answer."""

    def body() -> None:
        behind(stage, "a")
        behind(stage, "b", fail)
        behind(stage, "c")

    stage.route(body)
    answered = await stage.ask()
    assert (answered.status, answered.answer.error) == (200, None)
    await eventually(lambda: stage.world.items() == ["a", "c"])
    (told,) = [each for each in caplog.records if "background function" in each.message]
    assert "task" in told.message or "work" in told.message
    assert told.exc_info[0] is Trouble


@only(*ASYNC)
async def test_one_that_is_cancelled_by_itself_is_logged_too(stage: Stage, caplog: Any) -> None:
    """A client whose connection ends cancels what waits for it; its neighbours are run."""

    def cancelled() -> None:
        raise asyncio.CancelledError

    def body() -> None:
        behind(stage, "a")
        behind(stage, "b", cancelled)
        behind(stage, "c")

    stage.route(body)
    assert (await stage.ask()).status == 200
    await eventually(lambda: stage.world.items() == ["a", "c"])
    assert any("was cancelled" in each.message for each in caplog.records)


@needs_late_check
@only(places=(ALONE, INSIDE))
async def test_one_whose_commit_fails_is_logged_too(stage: Stage, caplog: Any) -> None:
    """What it had written is not there."""

    def body() -> None:
        behind(stage, "a", stage.insert_orphan)
        behind(stage, "b")

    stage.route(body)
    assert (await stage.ask()).status == 200
    await eventually(lambda: stage.world.items() == ["b"])
    assert [each.exc_info[0] for each in caplog.records if each.exc_info] == [IntegrityError]


def raising(stage: Stage) -> None:
    raise HTTPException(409)


def answering(stage: Stage) -> Response:
    return JSONResponse({}, 409)


def dooming(stage: Stage) -> None:
    stage.real.doom()


def swallowing(stage: Stage) -> None:
    with swallowed(IntegrityError):
        stage.insert("a")


def colliding(stage: Stage) -> None:
    stage.insert_orphan()


@only(places=EVERYWHERE)
@pytest.mark.parametrize(
    "end",
    [raising, answering, dooming, swallowing, pytest.param(colliding, marks=needs_late_check)],
)
async def test_none_runs_if_the_request_is_not_stored(
    stage: Stage, end: Callable[[Stage], Any]
) -> None:
    """Whatever the reason: it belongs to the transaction, as a hook does."""
    handle_conflict(stage.app)

    def body() -> Any:
        stage.insert("a")
        behind(stage, "never")
        return end(stage)

    stage.route(body)
    await stage.ask()
    assert stage.world.items() == []


@only(places=(ALONE, INSIDE))
async def test_none_runs_of_a_block_that_is_rolled_back(stage: Stage) -> None:
    """And those of a block that is left well follow the request."""

    def body() -> None:
        stage.insert("a")
        with swallowed(Trouble), stage.db.atomic():
            behind(stage, "never")
            raise Trouble
        with stage.db.atomic():
            behind(stage, "b")

    stage.route(body)
    await stage.ask()
    await eventually(lambda: stage.world.items() == ["a", "b"])


@only(places=(ALONE, INSIDE))
async def test_where_each_statement_is_stored_nothing_forgets_it(stage: Stage) -> None:
    """Outside a transaction: as a hook of Django's, which runs at once there."""

    def body() -> None:
        stage.insert("a")
        behind(stage, "b")
        raise HTTPException(409)

    endpoint = stage.route(body)
    stage.real.non_atomic_requests(endpoint)
    assert (await stage.ask()).status == 409
    await eventually(lambda: stage.world.items() == ["a", "b"])


@only(places=(ALONE, INSIDE))
async def test_that_of_a_scope_inside_is_decided_by_its_own_commit(stage: Stage) -> None:
    """It is stored whatever becomes of the request; it runs behind the response all the same."""
    seen: list[str] = []

    def body() -> None:
        with stage.db.scope():
            stage.insert("a")
            behind(stage, "b", lambda: seen.append("ran"))
        with swallowed(Trouble), stage.db.scope():
            behind(stage, "never")
            raise Trouble
        assert seen == []
        raise HTTPException(409)

    stage.route(body)
    assert (await stage.ask()).status == 409
    await eventually(lambda: stage.world.items() == ["a", "b"])


@only(places=(ALONE, INSIDE))
async def test_those_of_a_stream_run_behind_its_end(stage: Stage) -> None:
    """Also those of the tail, if that is stored."""

    def rows() -> Any:
        stage.db.scalar(text("SELECT 1"))
        yield "x"
        behind(stage, "b")

    def body() -> Response:
        behind(stage, "a")
        task = BackgroundTask(stage.task(lambda: stage.insert("tail")))
        return StreamingResponse(stage.stream(rows), background=task)

    stage.route(body)
    assert (await stage.ask()).status == 200
    await eventually(lambda: stage.world.items() == ["tail", "a", "b"])


@only(places=(ALONE,))
async def test_a_stream_that_fails_has_started_so_those_of_the_request_run(stage: Stage) -> None:
    """Its COMMIT was answered for; those of the tail are gone with the tail."""

    def rows() -> Any:
        yield "x"
        behind(stage, "never")
        raise Trouble

    def body() -> Response:
        stage.insert("a")
        behind(stage, "b")
        return StreamingResponse(stage.stream(rows))

    stage.route(body)
    assert isinstance((await stage.ask()).answer.error, Trouble)
    await eventually(lambda: stage.world.items() == ["a", "b"])


@only(places=(ALONE, INSIDE))
async def test_it_may_leave_more_behind_it(stage: Stage) -> None:
    """Which runs when its own scope has ended."""
    stage.route(lambda: behind(stage, "a", lambda: behind(stage, "b")))
    await stage.ask()
    await eventually(lambda: stage.world.items() == ["a", "b"])


@only(*ASYNC)
async def test_a_plain_function_of_an_async_database_runs_in_a_thread(stage: Stage) -> None:
    """With `db.sync`, and the event loop goes on."""
    db, threads = stage.real, []

    def plain(name: str) -> None:
        threads.append(threading.get_ident())
        insert(Both(db.sync), name)

    @stage.app.post("/")
    async def endpoint() -> None:
        db.background(plain, "a")

    await stage.ask()
    await eventually(lambda: stage.world.items() == ["a"])
    assert threads[0] != threading.get_ident()


@only(places=(ALONE,))
async def test_the_attempt_that_wins_runs_its_own(stage: Stage) -> None:
    """A request that is done again leaves nothing behind of what it had tried."""
    stage.install["retry"] = 1
    attempts: list[int] = []

    def body() -> None:
        attempts.append(1)
        behind(stage, f"behind {len(attempts)}")
        if len(attempts) == 1:
            raise StaleDataError

    stage.route(body)
    assert (await stage.ask()).status == 200
    await eventually(lambda: stage.world.items() == ["behind 2"])


@only(*ASYNC)
async def test_a_client_that_hangs_up_takes_nothing_with_it(stage: Stage) -> None:
    """What was stored is followed by what was left behind it, though nobody waits."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    db = stage.real

    async def work() -> None:
        begun.set()
        await go_on.wait()
        await db.execute(text("INSERT INTO item (name) VALUES ('b')"))

    @stage.app.post("/")
    async def endpoint() -> None:
        await db.execute(text("INSERT INTO item (name) VALUES ('a')"))
        db.background(work)

    request = asyncio.create_task(stage.ask())
    await begun.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    go_on.set()
    await eventually(lambda: stage.world.items() == ["a", "b"])


# -- Starlette's own, and what `@db.scope` gives them ---------------------------------------------


@only(places=(ALONE, INSIDE))
async def test_tasks_of_starlette_are_one_transaction_as_they_were(stage: Stage) -> None:
    """The tail: the second that fails takes the first with it."""

    @stage.app.post("/")
    async def endpoint(tasks: BackgroundTasks) -> None:
        tasks.add_task(stage.task(lambda: stage.insert("a")))
        tasks.add_task(stage.task(fail))

    assert isinstance((await stage.ask()).answer.error, Trouble)
    assert stage.world.items() == []


@only(places=(ALONE, INSIDE))
async def test_a_task_of_starlette_in_a_scope_is_stored_by_itself(stage: Stage) -> None:
    """`@db.scope`: what fails behind it does not undo it. Starlette runs none after that."""

    @stage.app.post("/")
    async def endpoint(tasks: BackgroundTasks) -> None:
        tasks.add_task(stage.real.scope(stage.task(lambda: stage.insert("a"))))
        tasks.add_task(stage.real.scope(stage.task(fail)))
        tasks.add_task(stage.real.scope(stage.task(lambda: stage.insert("never"))))

    assert isinstance((await stage.ask()).answer.error, Trouble)
    assert stage.world.items() == ["a"]


# -- without a request -----------------------------------------------------------------------------


@pytest.mark.worlds(places=["scope", "block"])
def test_in_a_job_it_runs_when_the_scope_has_ended(world: World) -> None:
    """When it is stored, and nothing is held any more."""
    seen: list[tuple[list[str], int]] = []

    def body(db: Both) -> None:
        def work(name: str) -> None:
            seen.append((world.items(), db.real.stats()["pool_checked_out"]))
            insert(db, name)

        insert(db, "a")
        for name in "bc":
            db.real.background(db.awaitable(work), name)

    world.run(body)
    assert seen == [(["a"], 0), (["a", "b"], 0)]
    assert world.items() == ["a", "b", "c"]


@pytest.mark.worlds(places=["scope", "block"])
def test_in_a_job_that_fails_none_runs(world: World) -> None:
    """The same rule."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.real.background(db.awaitable(lambda: insert(db, "never")))
        raise Trouble

    with pytest.raises(Trouble):
        world.run(body)
    assert world.items() == []


@pytest.mark.worlds(places=["scope"])
def test_one_that_fails_behind_a_job_is_no_failure_of_the_job(world: World, caplog: Any) -> None:
    """It is logged, and its neighbour is stored."""

    def body(db: Both) -> None:
        def failing() -> None:
            insert(db, "never")
            raise Trouble

        db.real.background(db.awaitable(failing))
        db.real.background(db.awaitable(lambda: insert(db, "a")))

    world.run(body)
    assert world.items() == ["a"]
    assert [each.exc_info[0] for each in caplog.records if each.exc_info] == [Trouble]


@pytest.mark.worlds(places=["scope"])
def test_in_a_scope_inside_a_scope_it_runs_behind_the_outer_one(world: World) -> None:
    """Which may hold what it needs: on SQLite, the turn to write."""

    def story(db: Both) -> None:
        with db.scope():
            with db.scope():
                db.real.background(db.awaitable(lambda: insert(db, "b")))
            insert(db, "a")

    world.play(story)
    assert world.items() == ["a", "b"]


@pytest.mark.worlds(places=["scope"])
def test_in_a_block_without_a_scope_it_runs_behind_the_block(world: World) -> None:
    """Which has opened one for itself."""

    def story(db: Both) -> None:
        with db.atomic():
            insert(db, "a")
            db.real.background(db.awaitable(lambda: insert(db, "b")))
        assert world.items() == ["a", "b"]

    world.play(story)


@pytest.mark.worlds(places=["scope"])
def test_in_a_hook_it_runs_behind_the_work(world: World) -> None:
    """A hook has a scope of its own, which ends at once."""

    def body(db: Both) -> None:
        db.on_commit(lambda: db.real.background(db.awaitable(lambda: insert(db, "b"))))
        insert(db, "a")

    world.run(body)
    assert world.items() == ["a", "b"]


@pytest.mark.worlds(places=["scope"])
def test_outside_of_any_scope_there_is_nothing_to_be_behind(world: World) -> None:
    """So it is refused, and never done silently."""

    def story(db: Both) -> None:
        with pytest.raises(ScopeMissing):
            db.real.background(db.awaitable(lambda: None))

    world.play(story)


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("wrong", [None, "function", 3])
def test_what_cannot_be_called_is_refused(world: World, wrong: Any) -> None:
    """Where it is said."""

    def body(db: Both) -> None:
        with pytest.raises(TypeError):
            db.real.background(wrong)

    world.run(body)


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize(
    "how", ["durable", "atomic", "retried", "never", "inside", "partial", "method"]
)
def test_what_refuses_a_transaction_is_refused_where_it_is_said(world: World, how: str) -> None:
    """Behind the answer, where it is run in one, nobody would hear of it."""

    def body(db: Both) -> None:
        decorators = {
            "atomic": db.real.atomic(durable=True),
            "retried": db.real.atomic(durable=True, retry=1),
            "never": db.real.atomic(propagation="never"),
        }
        store = db.awaitable(lambda: insert(db, "a"))
        given: Any = decorators.get(how, db.real.durable)(store)
        if how == "inside":
            given = db.real.atomic(given)
        if how == "partial":
            given = partial(given)
        if how == "method":
            given = MethodType(db.real.durable(db.awaitable(lambda self: None)), object())
        with pytest.raises(DurableError, match=r"scope\(atomic=False\)"):
            db.real.background(given)
        insert(db, "b")

    world.run(body)
    assert world.items() == ["b"]


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("around", ["scope", "not_supported"])
def test_with_a_scope_of_its_own_it_is_run(world: World, around: str) -> None:
    """In which each statement is stored at once, as a durable function may ask for."""

    def body(db: Both) -> None:
        task = db.real.durable(db.awaitable(lambda: insert_now(db)))
        if around == "scope":
            db.real.background(db.real.scope(atomic=False)(task))
        else:
            db.real.background(db.real.atomic(propagation="not_supported")(task))

    def insert_now(db: Both) -> None:
        db.execute(core_insert(Item).values(name="a"))

    world.run(body)
    assert world.items() == ["a"]


@pytest.mark.worlds(drivers=lambda each: each in SYNC, places=["scope"])
def test_an_async_function_is_refused_where_plain_code_ends_the_scope(world: World) -> None:
    """By either kind of database."""

    async def work() -> None:
        """Do nothing."""

    def body(db: Both) -> None:
        for database in (db.real, db.real.async_):
            with pytest.raises(TypeError):
                database.background(work)

    world.run(body)


@pytest.mark.worlds(drivers=lambda each: each not in SYNC, places=["scope"])
def test_a_lambda_that_returns_a_coroutine_is_told_what_to_do(world: World, caplog: Any) -> None:
    """A thread cannot await it."""

    async def work() -> None:
        """Do nothing."""

    world.run(lambda db: db.real.background(lambda: work()))  # noqa: PLW0108
    (told,) = [each.exc_info[1] for each in caplog.records if each.exc_info]
    assert "pass the async one itself" in str(told)


# -- a websocket -----------------------------------------------------------------------------------


@only()
async def test_in_a_websocket_it_runs_behind_the_next_message(stage: Stage) -> None:
    """And in its order, while the connection goes on."""

    def message(name: str) -> None:
        with stage.db.scope():
            stage.insert(name)
            behind(stage, f"behind {name}")
            behind(stage, f"behind {name} too", fail if name == "a" else lambda: None)

    @stage.app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async for name in websocket.iter_text():
            await work(stage, partial(message, name))
            await websocket.send_text(name)

    stage.wire()
    expected = ["a", "behind a", "b", "behind b", "behind b too"]
    async with Socket(stage.app) as socket:
        await socket.next()
        await socket.ask("a")
        await eventually(lambda: stage.world.items() == expected[:2])
        await socket.ask("b")
        await eventually(lambda: stage.world.items() == expected)
    assert socket.error is None
