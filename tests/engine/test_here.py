"""Work that is driven in the task of its caller, and moves into another when that is cancelled."""

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from sqlalchemy.util import await_only, greenlet_spawn

from dbscope.aio import shield

pytestmark = pytest.mark.anyio

LIMIT = 60.0  # seconds: nobody waits for it
colour: ContextVar[str] = ContextVar("colour", default="none")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def complaints() -> AsyncIterator[list[dict[str, Any]]]:
    """What the loop's exception handler is told; nothing, after each of these tests."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    yield told
    await turns()
    assert told == []


class Work:
    """Work that waits for one future after another, and tells who ran it."""

    def __init__(self, steps: int = 2) -> None:
        loop = asyncio.get_running_loop()
        self.futures = [loop.create_future() for _ in range(steps)]
        self.ran_in: list[Any] = []
        self.seen: list[Any] = []

    async def run(self) -> str:
        for future in self.futures:
            self.ran_in.append(asyncio.current_task())
            try:
                self.seen.append(await future)
            except BaseException as error:
                self.seen.append(type(error))
                raise
        return "done"

    def begin(self, **options: Any) -> asyncio.Task[str]:
        options = {"limit": LIMIT, "starts_here": True} | options
        return asyncio.create_task(shield.to_the_end(self.run(), **options))


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_undisturbed_work_makes_no_task() -> None:
    """What it costs is what it would cost by hand."""
    work = Work()
    task = work.begin()
    for number, future in enumerate(work.futures):
        await turns()
        future.set_result(number)
    assert await task == "done"
    assert work.seen == [0, 1]
    assert work.ran_in == [task, task]


async def test_work_that_waits_for_nothing_is_done_at_once() -> None:
    """There may be nothing to wait for."""
    assert await shield.to_the_end(Work(0).run(), limit=LIMIT, starts_here=True) == "done"


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_task_waits_for_the_work_and_is_cancelled_then(times: int) -> None:
    """Decision 8: the work goes on to its end, then the cancellation is delivered."""
    work = Work()
    task = work.begin()
    for _ in range(times):
        await turns()
        task.cancel("enough")
    await turns()
    assert not task.done()
    for number, future in enumerate(work.futures):
        assert not future.cancelled()
        future.set_result(number)
        await turns()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert work.seen == [0, 1]
    assert work.ran_in[1] is not task


@types.coroutine
def woken_by(future: asyncio.Future[Any]) -> Generator[Any, Any, bool]:
    """Wait once, and tell whether it was the future that has woken us."""
    future._asyncio_future_blocking = True
    yield future
    return future.done()


@pytest.mark.parametrize("forgiven", [False, True])
@pytest.mark.parametrize("at", ["before", "during", "with the answer"])
@pytest.mark.parametrize("times", [2, 3])
async def test_whoever_is_cancelled_twice_in_one_turn_is_woken_once(
    complaints: list[Any], times: int, at: str, forgiven: bool
) -> None:
    """As with asyncio's own futures: what is awaited after that is woken by its own end only."""
    work = Work()
    own: list[bool] = []
    later = [asyncio.get_running_loop().create_future() for _ in range(3)]

    async def caller() -> None:
        try:
            await shield.to_the_end(work.run(), limit=LIMIT, starts_here=True)
        except asyncio.CancelledError:
            for _ in range(times if forgiven else 0):
                task.uncancel()
            own.extend([await woken_by(future) for future in later])
            raise

    task = asyncio.create_task(caller())
    await turns(0 if at == "before" else 5)
    if at == "with the answer":
        work.futures[0].set_result(0)
    told = [task.cancel() for _ in range(times)]
    await turns()
    if at == "before":
        assert (told, task.cancelled()) == ([True] * times, True)
        return
    for future in [*work.futures, *later]:
        await turns()
        if not future.done():
            future.set_result("done")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert own == [True] * 3
    assert task.cancelling() == (0 if forgiven else times)
    assert len(work.seen) == 2


async def test_a_task_that_is_cancelled_while_others_cancel_what_it_waits_for(
    complaints: list[Any],
) -> None:
    """A driver may give up in the same turn: the task is cancelled all the same."""
    work = Work(1)
    task = work.begin()
    await turns()
    task.cancel()
    work.futures[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (task.cancelled(), work.seen) == (True, [asyncio.CancelledError])
    assert work.ran_in[0] is task


@pytest.mark.parametrize("times", [1, 2])
async def test_a_scope_and_a_task_that_are_cancelled_in_one_turn(
    complaints: list[Any], times: int
) -> None:
    """anyio cancels a task whatever it waits for, and somebody else does so by hand."""
    work = Work()
    own: list[bool] = []
    later = asyncio.get_running_loop().create_future()

    async def caller() -> None:
        try:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await shield.to_the_end(work.run(), limit=LIMIT, starts_here=True)
        except asyncio.CancelledError:
            own.append(await woken_by(later))
            raise

    scopes: list[anyio.CancelScope] = []
    task = asyncio.create_task(caller())
    await turns()
    scopes[0].cancel()
    for _ in range(times):
        task.cancel()
    for future in [*work.futures, later]:
        await turns()
        future.set_result("done")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (own, len(work.seen)) == ([True], 2)


async def test_a_cancelled_anyio_scope_waits_for_the_work_without_spinning() -> None:
    """Decision 8: anyio cancels again and again, unless a shield is put up."""
    work = Work()
    went_on = False

    async def caller() -> None:
        nonlocal went_on
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await shield.to_the_end(work.run(), limit=LIMIT, starts_here=True)
            went_on = True
        assert scope.cancelled_caught

    scopes: list[anyio.CancelScope] = []
    task = asyncio.create_task(caller())
    await turns()
    scopes[0].cancel()
    await turns()
    loop: Any = asyncio.get_running_loop()
    assert len(loop._ready) <= 1, "nobody asks to be called in every turn"
    for future in work.futures:
        future.set_result("kept")
        await turns()
    await task
    assert (work.seen, went_on) == (["kept", "kept"], False)


async def test_a_cancellation_that_comes_with_the_answer_is_delivered_too() -> None:
    """The future is done, and the task has not run since."""
    work = Work(1)
    task = work.begin()
    await turns()
    work.futures[0].set_result("committed")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.seen == ["committed"]


async def test_a_task_that_cancels_itself_first_finishes_the_work() -> None:
    """Whoever wants to be cancelled before COMMIT looks for that before the work begins."""
    work = Work(1)

    async def caller() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await shield.to_the_end(work.run(), limit=LIMIT, starts_here=True)

    task = asyncio.create_task(caller())
    await turns()
    work.futures[0].set_result("committed")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.seen == ["committed"]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_an_error_of_the_work_reaches_the_caller(cancelled: bool) -> None:
    """By itself, or as the context of the cancellation."""
    work = Work(1)
    task = work.begin()
    await turns()
    if cancelled:
        task.cancel()
        await turns()
    work.futures[0].set_exception(OSError("the wire is cut"))
    with pytest.raises(asyncio.CancelledError if cancelled else OSError) as caught:
        await task
    assert work.seen == [OSError]
    if cancelled:
        assert isinstance(caught.value.__context__, OSError)


async def test_a_future_that_was_cancelled_by_others_is_an_error_of_the_work() -> None:
    """A driver may cancel what it waits for; the work is told so, not interrupted."""
    work = Work(1)
    task = work.begin()
    await turns()
    work.futures[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.seen == [asyncio.CancelledError]
    assert work.ran_in == [task]


async def test_after_the_limit_the_work_is_cancelled() -> None:
    """Decision 8: a time limit, counted from the cancellation."""
    work = Work(1)
    task = work.begin(limit=0.01)
    await turns()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.seen == [asyncio.CancelledError]


async def test_work_that_only_gives_way_can_be_called_away() -> None:
    """`asyncio.sleep(0)` waits for no future."""
    rounds: list[Any] = []

    async def busy() -> None:
        for _ in range(20):
            rounds.append(asyncio.current_task())
            await asyncio.sleep(0)

    task = asyncio.create_task(shield.to_the_end(busy(), limit=LIMIT, starts_here=True))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(rounds) == 20
    assert rounds[0] is task
    assert rounds[-1] is not task


async def test_a_greenlet_keeps_its_context_when_it_is_called_away() -> None:
    """SQLAlchemy's work is a greenlet, which has the context variables of who has begun it."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(2)]
    seen: list[str] = []

    def plain() -> None:
        for future in futures:
            seen.append(colour.get())
            await_only(future)
        seen.append(colour.get())

    async def caller() -> None:
        colour.set("blue")
        work: Callable[..., Awaitable[None]] = greenlet_spawn
        await shield.to_the_end(work(plain), limit=LIMIT, starts_here=True)  # type: ignore[arg-type]

    task = asyncio.create_task(caller())
    await turns()
    task.cancel()
    await turns()
    for future in futures:
        future.set_result(None)
        await turns()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["blue", "blue", "blue"]
