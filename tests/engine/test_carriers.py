"""Greenlets that carry one plain function after the other."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, ClassVar

import pytest
from greenlet import GreenletExit, getcurrent
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.asyncio.exc import AsyncMethodRequired
from sqlalchemy.util import await_only

from dbscope import AsyncDatabase
from dbscope.aio import greenlets
from dbscope.aio.greenlets import Carrier, carry

pytestmark = pytest.mark.anyio

name: ContextVar[str] = ContextVar("name", default="nobody")


@pytest.fixture(autouse=True)
def none_idle() -> None:
    greenlets.idle.greenlets.clear()


def wait(value: Any) -> Any:
    """Wait one turn of the loop, as a driver does; return the value."""
    await_only(asyncio.sleep(0))
    return value


async def test_one_greenlet_carries_functions_one_after_the_other() -> None:
    """Whether they wait or not."""
    first = await carry(getcurrent)
    assert await carry(lambda: wait(getcurrent())) is first
    assert greenlets.idle.greenlets == [first]


async def test_functions_at_once_have_a_greenlet_each() -> None:
    """And each gets its own result."""

    def work(number: int) -> tuple[int, Any]:
        return wait(number), getcurrent()

    results = await asyncio.gather(*(carry(work, number) for number in range(5)))
    assert [number for number, _ in results] == [0, 1, 2, 3, 4]
    assert len({carrier for _, carrier in results}) == 5


async def test_arguments_and_result_are_handed_over() -> None:
    """By position and by name; a list is a result as any other."""
    assert await carry(dict, [("a", 1)], b=2) == {"a": 1, "b": 2}
    assert await carry(list, "ab") == ["a", "b"]


async def test_a_function_runs_in_the_context_of_its_caller() -> None:
    """Though the greenlet has carried another's function before, and sets stay with the caller."""

    async def work(own: str) -> tuple[str, str]:
        name.set(own)
        seen = await carry(lambda: wait(name.get()))
        await carry(name.set, f"{own} again")
        return seen, name.get()

    for own in ("alice", "bob"):
        assert await asyncio.create_task(work(own)) == (own, f"{own} again")
    assert await carry(name.get) == "nobody"
    assert len(greenlets.idle.greenlets) == 1


class Thing:
    """Something that must not be kept."""


async def test_an_idle_greenlet_keeps_nothing_of_what_it_did() -> None:
    """Neither function, arguments and result, nor the context."""

    async def work() -> list[weakref.ref[Thing]]:
        given, made, known = Thing(), Thing(), Thing()
        context: ContextVar[Thing] = ContextVar("context")
        context.set(known)
        assert await carry(lambda _: wait(made), given) is made
        return [weakref.ref(thing) for thing in (given, made, known)]

    left = await asyncio.create_task(work())
    await asyncio.sleep(0)  # or the loop still knows the task
    gc.collect()
    assert [thing() for thing in left] == [None] * 3
    assert len(greenlets.idle.greenlets) == 1


async def test_an_error_comes_as_it_was_raised_and_ends_the_greenlet() -> None:
    """With what it was raised from, whatever its caller is about."""

    def fail() -> None:
        try:
            {}["missing"]
        except KeyError:
            wait(None)
            raise ValueError("no") from None

    try:
        raise RuntimeError("the caller handles this")
    except RuntimeError:
        with pytest.raises(ValueError, match="no") as raised:
            await carry(fail)
    assert isinstance(raised.value.__context__, KeyError)
    assert greenlets.idle.greenlets == []


async def test_a_cancellation_arrives_where_the_function_waits() -> None:
    """It may even go on after that, as with `greenlet_spawn`."""
    seen: list[str] = []

    def work() -> str:
        try:
            await_only(asyncio.sleep(60))
        except asyncio.CancelledError:
            seen.append("cancelled")
        return str(wait("done"))

    task = asyncio.create_task(carry(work))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "done"
    assert seen == ["cancelled"]


async def test_a_coroutine_that_is_closed_ends_its_function() -> None:
    """And its greenlet with it."""
    seen: list[str] = []

    def work() -> None:
        try:
            await_only(asyncio.sleep(60))
        finally:
            seen.append("the end")

    coroutine = carry(work)
    coroutine.send(None)
    coroutine.close()
    assert seen == ["the end"]
    assert greenlets.idle.greenlets == []


def test_each_thread_has_greenlets_of_its_own() -> None:
    """A greenlet cannot be switched to from another thread."""
    made: list[Any] = []

    def work() -> None:
        made.extend(asyncio.run(carry(getcurrent)) for _ in range(2))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert len(set(map(id, made))) == 2
    assert greenlets.idle.greenlets == []


def alive() -> int:
    """Count our greenlets, wherever they are."""
    gc.collect()
    return sum(isinstance(each, Carrier) for each in gc.get_objects())


async def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd that is gone leaves no crowd of greenlets."""
    monkeypatch.setattr(greenlets, "KEPT", 3)
    before = alive()
    await asyncio.gather(*(carry(wait, number) for number in range(10)))
    assert len(greenlets.idle.greenlets) == 3
    assert alive() == before + 3


def test_a_thread_that_ends_leaves_none() -> None:
    """They live as long as the thread, for nobody else can use them."""
    before = alive()
    thread = threading.Thread(target=lambda: asyncio.run(carry(wait, 1)))
    thread.start()
    thread.join()
    assert alive() == before


def depth_left() -> int:
    """Return how deep a function can still call itself."""
    try:
        return 1 + depth_left()
    except RecursionError:
        return 0


async def down(frames: int, function: Callable[[], Any]) -> Any:
    """Carry a function from so many frames deeper."""
    return await (down(frames - 1, function) if frames else carry(function))


@pytest.fixture
def nothing_collected() -> Iterator[None]:
    """What is collected where no call is left cannot clean up, and says so."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("nothing_collected")
async def test_what_is_carried_from_the_deep_leaves_the_next_its_depth() -> None:
    """A greenlet counts the frames below its beginning all its life."""
    usual = await carry(depth_left)
    greenlets.idle.greenlets.clear()
    assert await down(600, depth_left) < usual - 500
    assert abs(await carry(depth_left) - usual) < 10


@pytest.mark.parametrize("wrong", [[7], 7, None])
async def test_only_what_can_be_awaited_is_awaited(wrong: Any) -> None:
    """A list is no answer either."""
    with pytest.raises(TypeError, match=r"can't be .*await"):  # Python's own words
        await carry(lambda: (await_only(wrong), "the end"))
    assert greenlets.idle.greenlets == []


async def test_the_exit_of_a_greenlet_is_returned() -> None:
    """As greenlets do."""

    def leave() -> None:
        raise GreenletExit("early")

    assert isinstance(await carry(leave), GreenletExit)
    assert greenlets.idle.greenlets == []


async def test_each_answer_goes_to_whom_it_is_for() -> None:
    """Though the one that was closed in the middle of another ends normally."""

    def forgiving() -> str:
        with suppress(GeneratorExit):
            await_only(asyncio.sleep(60))
        return "of the closed one"

    closed = carry(forgiving)
    closed.send(None)

    def closing() -> str:
        closed.close()
        return str(wait("of the other"))

    assert await carry(closing) == "of the other"
    assert await carry(lambda: wait("of the next")) == "of the next"


async def test_who_goes_on_with_it_gets_its_answer() -> None:
    """A coroutine may be begun in one greenlet, and continued in another."""
    begun = carry(lambda: wait("the answer"))
    await carry(begun.send, None)
    with pytest.raises(StopIteration) as ended:
        begun.send(None)
    assert ended.value.value == "the answer"


class Recording(AsyncSession):
    """A session class of an application, with a method of its own kind."""

    recorded: ClassVar[list[str]] = []

    async def execute(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        """Record it."""
        self.recorded.append(str(statement))
        return await super().execute(statement, *args, **kwargs)


@pytest.fixture(params=[AsyncSession, Recording])
async def db(request: pytest.FixtureRequest) -> AsyncIterator[AsyncDatabase]:
    """A database with the session class of SQLAlchemy, and with one of an application."""
    db = AsyncDatabase("sqlite://", session_class=request.param)
    Recording.recorded.clear()
    yield db
    await db.dispose()


async def test_an_applications_own_session_class_is_asked(db: AsyncDatabase) -> None:
    """What it overrides is not passed over, and `super()` leads to the greenlets that are kept."""
    async with db.scope():
        assert (await db.session.scalars(text("SELECT 1"))).all() == [1]
    assert Recording.recorded == (["SELECT 1"] if isinstance(db.sessionmaker(), Recording) else [])
    assert len(greenlets.idle.greenlets) == 1


async def test_a_cursor_at_the_server_is_refused_as_by_sqlalchemy(db: AsyncDatabase) -> None:
    """`execute` returns what needs no waiting; `stream` is for the rest."""
    async with db.scope():
        with pytest.raises(AsyncMethodRequired, match=r"execute.*stream"):
            await db.session.execute(text("SELECT 1"), execution_options={"stream_results": True})
        rows = await db.session.stream(text("SELECT 1"))
        assert [row async for row in rows] == [(1,)]
