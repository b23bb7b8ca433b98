"""A task that nobody waits for, and that is in the middle of its work when its scope ends."""

import asyncio
from typing import Any

import pytest
from fastapi import HTTPException
from sqlalchemy.util import greenlet_spawn
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse

from dbscope import ConcurrentUse, ScopeClosed
from tests.scopes.stage import ALONE, ASYNC, INSIDE, OUTSIDE, Stage, eventually, handle, only
from tests.worlds import Item

pytestmark = pytest.mark.anyio

EVERYWHERE = (ALONE, OUTSIDE, INSIDE)


class Stray:
    """A piece of work of two halves, with a pause between."""

    def __init__(self, stage: Stage, how: str = "flush") -> None:
        self.stage = stage
        self.how = how
        self.is_half_done = asyncio.Event()
        self.go_on = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.session: Any = None

    async def work(self) -> None:
        """Do one half, and then the other."""
        await self.half("one half")
        self.is_half_done.set()
        await self.go_on.wait()
        await self.half("the other half")

    async def half(self, name: str) -> None:
        """Write, or only add to what the end of the scope will write."""
        if self.how == "add":
            self.stage.real.session.add(Item(name=name))
        else:
            await greenlet_spawn(self.stage.insert, name)

    async def begin(self) -> None:
        """Begin, in a task that nobody awaits, and come back in the middle."""
        self.task = asyncio.create_task(self.work(), name="stray")
        await self.is_half_done.wait()

    async def end(self) -> BaseException | None:
        """Let it go on, and return what has become of it."""
        self.go_on.set()
        assert self.task is not None
        (result,) = await asyncio.gather(self.task, return_exceptions=True)
        return result


@only(*ASYNC, places=EVERYWHERE)
@pytest.mark.parametrize("how", ["flush", "add"])
async def test_a_request_is_not_answered_in_the_middle_of_it(stage: Stage, how: str) -> None:
    """Half of it would be stored: nothing is, and the error names the task."""
    stray = Stray(stage, how)

    @stage.app.post("/")
    async def endpoint() -> None:
        await greenlet_spawn(stage.insert, "a")
        await stray.begin()

    seen = await stage.ask()
    assert isinstance(seen.answer.error, ConcurrentUse)
    assert "Stray.work (stray)" in str(seen.answer.error)
    assert "POST /" in str(seen.answer.error)
    assert (seen.status, seen.items) == (500, [])
    assert isinstance(await stray.end(), ScopeClosed)
    assert stage.world.items() == []


@only(*ASYNC, places=EVERYWHERE)
@pytest.mark.parametrize("how", ["flush", "add"])
async def test_its_other_half_is_not_stored_behind_a_request_that_was_rolled_back(
    stage: Stage, how: str
) -> None:
    """In the tail it would be."""
    stray, refused = Stray(stage, how), []

    async def tail() -> None:
        refused.append(await stray.end())
        await greenlet_spawn(stage.insert, "tail")

    @stage.app.post("/")
    async def endpoint() -> Any:
        await greenlet_spawn(stage.insert, "a")
        await stray.begin()
        return JSONResponse({}, 409, background=BackgroundTask(tail))

    seen = await stage.ask()
    assert (seen.status, seen.answer.error) == (409, None)
    assert isinstance(refused[0], ConcurrentUse)
    assert stage.world.items() == ["tail"]


@only(*ASYNC, places=EVERYWHERE)
async def test_nor_while_its_error_is_answered_by_the_application(stage: Stage) -> None:
    """Whose handler may use the database, in a session of its own."""
    handle(stage.app, ConcurrentUse, 418)
    stray = Stray(stage)

    @stage.app.post("/")
    async def endpoint() -> None:
        await stray.begin()

    seen = await stage.ask()
    assert (seen.status, seen.items) == (418, [])
    assert isinstance(await stray.end(), ConcurrentUse | ScopeClosed)
    assert stage.world.items() == []


@only(*ASYNC, places=(ALONE, INSIDE))
async def test_a_failed_request_keeps_its_own_answer(stage: Stage) -> None:
    """Nothing is stored of either."""
    stray = Stray(stage)

    @stage.app.post("/")
    async def endpoint() -> None:
        await stray.begin()
        raise HTTPException(404)

    assert (await stage.ask()).status == 404
    assert isinstance(await stray.end(), ScopeClosed)
    assert stage.world.items() == []


@only(*ASYNC)
@pytest.mark.parametrize("how", ["flush", "add"])
async def test_a_scope_is_not_ended_in_the_middle_of_it_either(stage: Stage, how: str) -> None:
    """The same at the end of `db.scope()`."""
    stray = Stray(stage, how)
    with pytest.raises(ConcurrentUse, match="in the middle of"):
        async with stage.real.scope():
            await greenlet_spawn(stage.insert, "a")
            await stray.begin()
    assert isinstance(await stray.end(), ScopeClosed)
    assert stage.world.items() == []


@only(*ASYNC, places=EVERYWHERE)
async def test_one_that_is_awaited_is_a_part_of_the_request(stage: Stage) -> None:
    """Whether its end was waited for, or it was done by itself."""
    stray = Stray(stage)

    @stage.app.post("/")
    async def endpoint() -> None:
        await stray.begin()
        assert await stray.end() is None

    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["one half", "the other half"])


@only(*ASYNC, places=EVERYWHERE)
async def test_one_with_a_scope_of_its_own_is_stored_as_a_whole(stage: Stage) -> None:
    """The remedy that the error names."""
    stray = Stray(stage)
    work = stray.work
    stray.work = stage.real.scope(work)  # type: ignore[method-assign]

    @stage.app.post("/")
    async def endpoint() -> None:
        await stray.begin()

    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, [])
    assert await stray.end() is None
    await eventually(lambda: stage.world.items() == ["one half", "the other half"])


@only(*ASYNC, places=EVERYWHERE)
async def test_one_that_has_only_read_does_not_hold_the_answer_up(stage: Stage) -> None:
    """Nothing of it would be stored."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    tasks: list[Any] = []

    async def read() -> None:
        await greenlet_spawn(stage.db.scalar, stage_select())
        begun.set()
        await go_on.wait()

    @stage.app.post("/")
    async def endpoint() -> None:
        await greenlet_spawn(stage.insert, "a")
        tasks.append(asyncio.create_task(read()))
        await begun.wait()

    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["a"])
    go_on.set()
    await tasks[0]


def stage_select() -> Any:
    """Return a statement that reads."""
    from sqlalchemy import select

    return select(Item.name)
