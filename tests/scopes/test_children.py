"""What a request begins beside itself: tasks and threads, awaited or not, and whose work it is."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert as sql_insert
from sqlalchemy.util import greenlet_spawn
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse

from dbscope import ScopeClosed
from tests.scopes.stage import ALONE, ASYNC, INSIDE, OUTSIDE, Stage, Trouble, eventually, only
from tests.worlds import SYNC, Item

pytestmark = pytest.mark.anyio

EVERYWHERE = (ALONE, OUTSIDE, INSIDE)


def in_thread(function: Callable[[], object], *, in_context: bool) -> threading.Thread:
    """Begin a thread of the application's own, with or without the context of the caller."""
    target = contextvars.copy_context().run if in_context else lambda call: call()
    thread = threading.Thread(target=target, args=(function,))
    thread.start()
    return thread


@only(*ASYNC, places=EVERYWHERE)
@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_that_is_awaited_is_the_requests(stage: Stage, *, fails: bool) -> None:
    """One session, one fate."""

    async def child() -> None:
        await greenlet_spawn(stage.insert, "child")
        if fails:
            raise Trouble

    @stage.app.post("/")
    async def endpoint() -> None:
        await greenlet_spawn(stage.insert, "a")
        await asyncio.create_task(child())

    seen = await stage.ask()
    assert (seen.status, seen.items) == ((500, []) if fails else (200, ["a", "child"]))


@only(*ASYNC, places=EVERYWHERE)
@pytest.mark.parametrize("request_fails", [False, True])
async def test_a_task_in_a_scope_has_a_fate_of_its_own(
    stage: Stage, *, request_fails: bool
) -> None:
    """It is stored though the request is not, and the other way round."""
    tasks: list[asyncio.Task[None]] = []
    answered = asyncio.Event()

    @stage.real.scope
    async def child(name: str) -> None:
        await answered.wait()
        await greenlet_spawn(stage.insert, name)
        if name == "bad":
            raise Trouble

    @stage.app.post("/")
    async def endpoint() -> None:
        await greenlet_spawn(stage.insert, "a")
        tasks.extend(asyncio.create_task(child(name)) for name in ("good", "bad"))
        if request_fails:
            raise Trouble

    seen = await stage.ask()
    assert (seen.status, seen.items) == ((500, []) if request_fails else (200, ["a"]))
    answered.set()
    good, bad = await asyncio.gather(*tasks, return_exceptions=True)
    assert (good, type(bad)) == (None, Trouble)
    assert stage.world.items() == (["good"] if request_fails else ["a", "good"])


@only(*SYNC, places=EVERYWHERE)
@pytest.mark.parametrize("in_context", [False, True])
async def test_a_thread_in_a_scope_has_one_too(stage: Stage, *, in_context: bool) -> None:
    """Whether it was given the context of the request or not."""
    answered, threads = threading.Event(), []

    def child() -> None:
        answered.wait(40)
        stage.insert("thread")

    def body() -> None:
        stage.insert("a")
        threads.append(in_thread(stage.real.scope(child), in_context=in_context))

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["a"])
    answered.set()
    await asyncio.to_thread(threads[0].join, 40)
    assert stage.world.items() == ["a", "thread"]


@only(*SYNC, places=EVERYWHERE)
async def test_a_thread_that_is_waited_for_is_the_requests(stage: Stage) -> None:
    """In its context, one after the other."""

    def body() -> None:
        stage.insert("a")
        in_thread(lambda: stage.insert("thread"), in_context=True).join(40)

    stage.route(body)
    assert (await stage.ask()).items == ["a", "thread"]


@only(*SYNC, places=EVERYWHERE)
async def test_a_thread_that_comes_after_the_end_is_refused(stage: Stage) -> None:
    """Nothing of it is stored, and it is told why."""
    answered, threads, told = threading.Event(), [], []

    def child() -> None:
        answered.wait(40)
        try:
            stage.insert("late")
        except ScopeClosed as error:
            told.append(str(error))

    def body() -> None:
        stage.insert("a")
        threads.append(in_thread(child, in_context=True))

    stage.route(body)
    assert (await stage.ask()).items == ["a"]
    answered.set()
    await asyncio.to_thread(threads[0].join, 40)
    assert "POST /" in told[0]
    assert stage.world.items() == ["a"]


@only(places=EVERYWHERE)
async def test_two_that_run_at_once_are_gathered_in_a_scope_each(stage: Stage) -> None:
    """`db.gather`, from the tail, where the request holds nothing."""

    def tail() -> None:
        stage.db.gather(lambda: stage.insert("b"), lambda: stage.insert("c"))

    def body() -> Any:
        stage.insert("a")
        return JSONResponse({}, background=BackgroundTask(stage.task(tail)))

    stage.route(body)
    assert (await stage.ask()).items == ["a"]
    await eventually(lambda: sorted(stage.world.items()) == ["a", "b", "c"])


@only(*ASYNC, places=(ALONE,))
async def test_a_task_of_the_lifespan_uses_a_scope_of_its_own(stage: Stage) -> None:
    """No request has begun it."""

    @stage.real.scope
    async def tick() -> None:
        await stage.real.execute(sql_insert(Item).values(name="tick"))

    await asyncio.create_task(tick())
    assert stage.world.items() == ["tick"]
