"""The body of a stream: events hold no transaction between them, and no reader holds one open."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import anyio.to_thread
import pytest
from fastapi import Depends
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.util import greenlet_spawn
from starlette.background import BackgroundTask
from starlette.responses import Response

from dbscope import ClientTimeout, ReadOnlyViolation
from dbscope.scopes import client
from tests.scopes.stage import (
    ALONE,
    ASYNC,
    INSIDE,
    OUTSIDE,
    Stage,
    Trouble,
    eventually,
    only,
    swallowed,
)
from tests.worlds import Item, needs_late_check

pytestmark = pytest.mark.anyio

EVERYWHERE = (ALONE, OUTSIDE, INSIDE)
EVENTS = "text/event-stream; charset=utf-8"


# -- server-sent events ----------------------------------------------------------------------------


def held(stage: Stage) -> tuple[int, bool, list[str]]:
    """Return the connections that are out, whether the lock is free, and what is stored."""
    free = not stage.world.is_sqlite or stage.world.look.write_lock_is_free()
    return stage.real.stats()["pool_checked_out"], free, stage.world.items()


@only(places=EVERYWHERE)
@pytest.mark.parametrize("used", ["before", "only in the body"])
async def test_nothing_is_held_between_two_events(stage: Stage, used: str) -> None:
    """They may come for a day: each statement and each flush is a transaction of its own."""
    between: list[tuple[int, bool, list[str]]] = []

    def events() -> Iterator[str]:
        for number in range(3):
            stage.db.scalar(text("SELECT 1"))
            stage.insert(str(number))
            yield f"data: {number}\n\n"
            between.append(held(stage))

    def body() -> Response:
        if used == "before":
            stage.insert("a")
        return StreamingResponse(stage.stream(events), media_type=EVENTS)

    stage.route(body)
    seen = await stage.ask()
    assert seen.answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    names = ["a"] if used == "before" else []
    stored = [[*names, *"012"[: number + 1]] for number in range(3)]
    assert between == [(0, True, each) for each in stored]


@only(*ASYNC, places=EVERYWHERE)
@pytest.mark.parametrize("fails", [False, pytest.param(True, marks=needs_late_check)])
async def test_what_comes_before_the_events_is_the_request(stage: Stage, *, fails: bool) -> None:
    """FastAPI's generator runs before the response starts; what it does waits for the tail."""
    db, seen = stage.real, []

    async def dependency() -> None:
        await greenlet_spawn(stage.insert, "a")
        if fails:
            await greenlet_spawn(stage.insert_orphan)

    @stage.app.post("/", response_class=EventSourceResponse, dependencies=[Depends(dependency)])
    async def events() -> AsyncIterator[str]:
        async with db.atomic():
            seen.append(await anyio.to_thread.run_sync(stage.world.items))
            await greenlet_spawn(stage.insert, "b")
        yield "b"

    answered = await stage.ask()
    if fails:
        assert isinstance(answered.answer.error, IntegrityError)
        assert (answered.status, stage.world.items()) == (500, [])
    else:
        assert (answered.status, answered.answer.body) == (200, b'data: "b"\n\n')
        assert (seen, stage.world.items()) == ([["a"]], ["a", "b"])
        assert "a" in answered.items  # and "b" as well, if that was quick


async def asked(stage: Stage, on_send: Any) -> Any:
    """Send a request, and be there at each message of the answer."""
    from tests.asgi import ask

    stage.wire()
    return await ask(stage.app, "POST", "/", on_send=on_send)


@only(*ASYNC, places=EVERYWHERE)
@pytest.mark.parametrize("how", ["scope", "atomic"])
async def test_an_event_may_be_a_transaction(stage: Stage, how: str) -> None:
    """As FastAPI's own events, whose generator runs ahead in a task of its own."""
    db = stage.real

    @stage.app.post("/", response_class=EventSourceResponse)
    async def events() -> AsyncIterator[str]:
        for name in ("a", "bad", "b"):
            with swallowed(Trouble) if name == "bad" else nullcontext():
                async with getattr(db, how)():
                    await greenlet_spawn(stage.insert, name)
                    if name == "bad":
                        raise Trouble
            yield name

    seen = await stage.ask()
    assert seen.status == 200
    assert [line for line in seen.answer.body.split() if line != b"data:"] == [
        b'"a"',
        b'"bad"',
        b'"b"',
    ]
    assert stage.world.items() == ["a", "b"]


@only(places=(ALONE, INSIDE))
async def test_events_that_fail_keep_what_was_stored(stage: Stage) -> None:
    """Each was a transaction; what was not flushed is gone."""

    def events() -> Iterator[str]:
        stage.insert("a")
        yield "data: a\n\n"
        stage.db.session.add(Item(name="b"))
        raise Trouble

    stage.route(lambda: StreamingResponse(stage.stream(events), media_type=EVENTS))
    seen = await stage.ask()
    assert isinstance(seen.answer.error, Trouble)
    assert stage.world.items() == ["a"]


@only(places=(ALONE, INSIDE))
async def test_what_a_read_only_route_sends_stays_read_only(stage: Stage) -> None:
    """And what runs behind its events."""

    def events() -> Iterator[str]:
        yield f"data: {stage.db.scalar(select(Item.name))}\n\n"
        stage.insert("a")

    endpoint = stage.route(lambda: StreamingResponse(stage.stream(events), media_type=EVENTS))
    stage.real.readonly(endpoint)
    seen = await stage.ask()
    assert isinstance(seen.answer.error, ReadOnlyViolation)


@only()
async def test_another_stream_is_one_transaction_as_it_was(stage: Stage) -> None:
    """Its end decides about all that the body did."""

    def rows() -> Iterator[str]:
        stage.insert("a")
        yield "a"
        with swallowed(IntegrityError), stage.db.atomic():
            stage.insert("a")
        yield "b"
        raise Trouble

    stage.route(lambda: StreamingResponse(stage.stream(rows), media_type="text/plain"))
    seen = await stage.ask()
    assert (seen.answer.body, type(seen.answer.error)) == (b"ab", Trouble)
    assert stage.world.items() == []


# -- a client that reads slowly --------------------------------------------------------------------

LIMIT = 0.2  # seconds; of what ends by it, nobody waits for it in vain


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked often whether a transaction has begun."""
    monkeypatch.setattr(client, "LOOK_AGAIN", LIMIT / 4)


async def read_nothing(stage: Stage, message: dict[str, Any]) -> None:
    """Be a client whose buffers are full, until nobody is kept waiting by it."""
    if message.get("body"):
        await eventually(lambda: stage.real.stats()["client_timeouts"] > 0)


async def read_slowly(stage: Stage, message: dict[str, Any]) -> None:
    """Be a client that reads a piece now and then."""
    if message.get("body"):
        await asyncio.sleep(LIMIT / 4)


def pieces(stage: Stage, number: int, how: str = "") -> Any:
    """Return a body that asks the database for each piece."""

    def rows() -> Iterator[str]:
        for each in range(number):
            if how == "scope":
                with stage.db.scope():
                    stage.insert(str(each))
            else:
                stage.insert(str(each))
            if how == "release":
                stage.db.session.commit()
                stage.db.release()
            yield str(each)

    return stage.stream(rows)


@only(places=EVERYWHERE)
@pytest.mark.parametrize("reader", [read_nothing, read_slowly])
async def test_a_client_that_does_not_read_holds_no_transaction_open(
    stage: Stage, reader: Any
) -> None:
    """`client_wait`, in sum: the stream is cut off, and what its body did is rolled back."""
    stage.remake(client_wait=LIMIT)

    def body() -> Response:
        stage.insert("a")
        return StreamingResponse(pieces(stage, 1000))

    stage.route(body)
    answer = await asked(stage, partial(reader, stage))
    assert (answer.status, type(answer.error)) == (200, ClientTimeout)
    assert "POST / sends to a slow client" in str(answer.error)
    ahead = [["a", "0"]] if stage.around == INSIDE else []  # before the request was committed
    out, free, stored = await anyio.to_thread.run_sync(held, stage)
    assert (out, free) == (0, True)
    assert stored in [["a"], *ahead]
    assert stage.real.stats()["client_timeouts"] == 1


@only(places=(ALONE, INSIDE))
@pytest.mark.parametrize("how", ["scope", "release"])
async def test_who_holds_nothing_meanwhile_may_send_for_as_long_as_it_takes(
    stage: Stage, how: str
) -> None:
    """A scope for each page, or the connection given back."""
    stage.remake(client_wait=LIMIT)
    stage.route(lambda: StreamingResponse(pieces(stage, 12, how)))
    answer = await asked(stage, partial(read_slowly, stage))
    assert (answer.status, answer.is_complete, answer.error) == (200, True, None)
    assert len(stage.world.items()) == 12


@only(places=(ALONE, INSIDE))
async def test_an_answer_behind_which_nothing_is_held_waits_for_its_client(stage: Stage) -> None:
    """It is committed, so nobody is kept by it; and the tasks behind it begin when it is read."""
    stage.remake(client_wait=LIMIT)
    waited = asyncio.Event()

    async def reader(message: dict[str, Any]) -> None:
        if message.get("body"):
            await asyncio.sleep(LIMIT * 3)
            waited.set()

    def body() -> Response:
        stage.insert("a")
        return Response("a", background=BackgroundTask(stage.task(lambda: stage.insert("b"))))

    stage.route(body)
    answer = await asked(stage, reader)
    assert (answer.error, answer.is_complete, waited.is_set()) == (None, True, True)
    assert stage.world.items() == ["a", "b"]


@only("inline", "psycopg async", places=EVERYWHERE)
async def test_who_says_so_has_no_limit(stage: Stage) -> None:
    """`client_wait=None`."""
    stage.remake(client_wait=None)
    stage.route(lambda: StreamingResponse(pieces(stage, 8)))
    answer = await asked(stage, partial(read_slowly, stage))
    assert (answer.error, answer.is_complete, len(stage.world.items())) == (None, True, 8)
