"""A transaction does not wait for its client: `client_wait`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from fastapi import Body, Request
from starlette.responses import Response, StreamingResponse

from dbscope import ClientTimeout, ConfigurationError, TransactionBroken
from dbscope.scopes import client
from dbscope.watch.events import ClientWaits
from tests.scopes.stage import ALONE, ASYNC, INSIDE, OUTSIDE, Seen, Stage, handle, only, work
from tests.scopes.stage import AROUND as EVERYWHERE

pytestmark = pytest.mark.anyio

LIMIT = 0.2  # seconds; of what ends by it, nobody waits for it in vain


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place is warned of once in a process; here once in a test."""
    monkeypatch.setattr(client, "warned", set())


async def never() -> bytes:
    """A client that sends no more."""
    await asyncio.Event().wait()
    raise AssertionError


async def slowly() -> bytes:
    """A client that sends a byte now and then."""
    await asyncio.sleep(LIMIT / 10)
    return b" "


def post(stage: Stage, body: Callable[[Request], Awaitable[Any]]) -> None:
    """Make an async function an endpoint."""
    stage.app.add_api_route("/", body, methods=["POST"])


def check_rolled_back(stage: Stage, seen: Seen) -> None:
    """Nothing is stored, nobody is kept waiting, and the client is told that it was too slow."""
    assert (seen.status, seen.items, seen.checked_out) == (408, [], 0)
    assert seen.lock_is_free
    assert seen.answer.headers["connection"] == "close"
    assert stage.real.stats()["client_timeouts"] == 1


class Authenticating:
    """A middleware of the application, which asks the database before the body is read."""

    def __init__(self, app: Any, stage: Stage) -> None:
        self.app = app
        self.stage = stage

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await work(self.stage, lambda: self.stage.insert("by the middleware"))
        await self.app(scope, receive, send)


@pytest.mark.parametrize("more", [never, slowly])
@pytest.mark.parametrize("is_plain", [False, True], ids=["async-def", "def"])
@only(places=(ALONE, OUTSIDE))
async def test_a_body_that_never_ends_is_408(stage: Stage, more: Any, is_plain: bool) -> None:
    """Whoever reads it: here FastAPI, before an endpoint of either kind. The sum of it counts."""
    stage.remake(client_wait=LIMIT)

    def plain(name: str = Body()) -> None:
        raise AssertionError("it was called")

    async def not_plain(name: str = Body()) -> None:
        raise AssertionError("it was called")

    stage.app.add_api_route("/", plain if is_plain else not_plain, methods=["POST"])
    stage.app.add_middleware(Authenticating, stage=stage)
    check_rolled_back(stage, await stage.ask(body=[b'"a'], more=more))


@only(*ASYNC, places=EVERYWHERE)
async def test_an_endpoint_that_reads_too_late_is_408(stage: Stage) -> None:
    """It has begun to write before its body was there."""
    stage.remake(client_wait=LIMIT)

    async def endpoint(request: Request) -> None:
        await work(stage, lambda: stage.insert("a"))
        await request.body()

    post(stage, endpoint)
    check_rolled_back(stage, await stage.ask(body=[b"a"], more=never))


@only("inline", "psycopg async", places=EVERYWHERE)
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_no_other_answer_leaves_than_that(stage: Stage, status: int) -> None:
    """Though the endpoint swallows the error; and what it asks next does not begin anew."""
    stage.remake(client_wait=LIMIT)
    asked: list[BaseException] = []

    async def endpoint(request: Request) -> Response:
        await work(stage, lambda: stage.insert("a"))
        try:
            await request.body()
        except (ClientTimeout, ExceptionGroup):  # the group is of Starlette's BaseHTTPMiddleware
            try:
                await work(stage, lambda: stage.insert("b"))
            except TransactionBroken as error:
                asked.append(error)
        return Response(status_code=status)

    post(stage, endpoint)
    check_rolled_back(stage, await stage.ask(body=[b"a"], more=never))
    assert isinstance(asked[0].__cause__, ClientTimeout)


@only("inline", "psycopg async", places=EVERYWHERE)
async def test_the_application_may_answer_it_by_a_handler(stage: Stage) -> None:
    """As every other error; the work is rolled back."""
    stage.remake(client_wait=LIMIT)
    handle(stage.app, ClientTimeout, 418)

    async def endpoint(request: Request) -> None:
        await work(stage, lambda: stage.insert("a"))
        await request.body()

    post(stage, endpoint)
    seen = await stage.ask(body=[b"a"], more=never)
    assert (seen.status, seen.items) == (418, [])


@only("inline", "psycopg async")
async def test_a_scope_inside_the_request_does_not_wait_either(stage: Stage) -> None:
    """It is the code that waits which counts, in whatever scope it is."""
    stage.remake(client_wait=LIMIT)

    async def endpoint(request: Request) -> None:
        async with stage.real.scope():
            await work(stage, lambda: stage.insert("a"))
            await request.body()

    post(stage, endpoint)
    check_rolled_back(stage, await stage.ask(body=[b"a"], more=never))


@only("inline", "psycopg async")
async def test_a_transaction_that_another_task_begins_meanwhile_counts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else of the request stores what was read, while the next piece is waited for."""
    monkeypatch.setattr(client, "LOOK_AGAIN", 0.01)
    stage.remake(client_wait=LIMIT)

    async def endpoint(request: Request) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(request.body)
            await asyncio.sleep(0)
            await work(stage, lambda: stage.insert("a"))

    post(stage, endpoint)
    check_rolled_back(stage, await stage.ask(body=[b"a"], more=never))


# -- who is not concerned --------------------------------------------------------------------------


def pieces(number: int) -> Callable[[], Awaitable[bytes]]:
    """A client that takes longer than the limit, and comes to an end: by hanging up."""
    left = [b" "] * number

    async def more() -> bytes:
        await asyncio.sleep(LIMIT / 10)
        return left.pop()

    return more


async def read_some(request: Request, number: int) -> None:
    """Read that many pieces of the body."""
    stream: AsyncIterator[bytes] = request.stream()
    for _ in range(number):
        await anext(stream)


@only("inline", "psycopg async", places=EVERYWHERE)
async def test_a_body_that_is_read_before_may_take_its_time(stage: Stage) -> None:
    """No transaction is open then."""
    stage.remake(client_wait=LIMIT)

    async def endpoint(request: Request) -> None:
        await read_some(request, 20)
        await work(stage, lambda: stage.insert("a"))

    post(stage, endpoint)
    seen = await stage.ask(more=pieces(30))
    assert (seen.status, seen.items) == (200, ["a"])


@only("inline", "psycopg async")
async def test_what_stores_each_piece_by_itself_may_take_its_time(stage: Stage) -> None:
    """In autocommit nothing is held between two blocks."""
    stage.remake(client_wait=LIMIT, atomic_requests=False)

    async def endpoint(request: Request) -> None:
        for number in range(20):
            await read_some(request, 1)
            async with stage.real.atomic():
                await work(stage, lambda: stage.insert(str(number)))  # noqa: B023

    post(stage, endpoint)
    seen = await stage.ask(more=pieces(30))
    assert (seen.status, len(seen.items or [])) == (200, 20)


@only("inline", "psycopg async")
async def test_without_a_limit_a_transaction_may_wait(stage: Stage, caplog: Any) -> None:
    """`client_wait=None`, for uploads that are meant to be slow."""
    stage.remake(client_wait=None)

    async def endpoint(request: Request) -> None:
        await work(stage, lambda: stage.insert("a"))
        await read_some(request, 20)

    post(stage, endpoint)
    seen = await stage.ask(more=pieces(30))
    assert (seen.status, seen.items, caplog.messages) == (200, ["a"], [])


@only("inline", "psycopg async", places=EVERYWHERE)
async def test_a_body_that_is_there_waits_for_nobody(stage: Stage, caplog: Any) -> None:
    """Neither does who asks now and then whether the client is still there."""
    stage.remake(client_wait=LIMIT)

    async def endpoint(request: Request) -> None:
        await work(stage, lambda: stage.insert("a"))
        assert await request.body() == b"ab"
        for _ in range(20):
            assert not await request.is_disconnected()
            await asyncio.sleep(LIMIT / 10)

    post(stage, endpoint)
    seen = await stage.ask(body=[b"a", b"b"])
    assert (seen.status, seen.items, caplog.messages) == (200, ["a"], [])


@only("inline", "psycopg async", places=EVERYWHERE)
async def test_a_stream_listens_for_the_end_of_its_client(stage: Stage, caplog: Any) -> None:
    """Of a body that nobody reads, while the answer leaves; the unit of the tail is not its."""
    stage.remake(client_wait=LIMIT)

    async def rows() -> AsyncIterator[str]:
        for number in range(20):
            await asyncio.sleep(LIMIT / 10)
            await work(stage, lambda: stage.insert(str(number)))  # noqa: B023
            yield str(number)

    async def endpoint() -> Response:
        await work(stage, lambda: stage.insert("a"))
        return StreamingResponse(rows())

    stage.app.add_api_route("/", endpoint, methods=["POST"])
    seen = await stage.ask(more=slowly)
    assert (seen.status, seen.answer.is_complete, caplog.messages) == (200, True, [])
    assert len(stage.world.items()) == 21


# -- what is said ----------------------------------------------------------------------------------


@only("inline", "psycopg async", places=(ALONE, INSIDE))
async def test_the_line_that_waits_is_named_once(
    stage: Stage, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every request it would be the same, whether its client is slow or not."""
    monkeypatch.setattr(client, "WORTH_A_WORD", 0)
    heard: list[Any] = []
    stage.real.events.listen(heard.append)
    first: int = 0

    async def endpoint(request: Request) -> None:
        nonlocal first
        await work(stage, lambda: stage.insert(str(first)))
        first += 1
        await read_some(request, 3)

    post(stage, endpoint)
    with caplog.at_level(logging.WARNING, "dbscope"):
        for _ in range(2):
            assert (await stage.ask(more=pieces(5))).status == 200
    (told,) = caplog.messages
    line = read_some.__code__.co_firstlineno + 4
    assert told.startswith(f"POST / waits for its client at {__file__}:{line} while it holds")
    (waits,) = [event for event in heard if isinstance(event, ClientWaits)]
    assert (str(waits.scope), waits.where) == ("POST /", f"{__file__}:{line}")


@only("inline")
async def test_a_limit_that_is_none_is_refused(stage: Stage) -> None:
    """Before anything is opened."""
    for wrong in (0, -1):
        with pytest.raises(ConfigurationError, match="client_wait"):
            stage.remake(client_wait=wrong)
