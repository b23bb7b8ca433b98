"""R15: what is written after the response has started is stored, or it is an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import BackgroundTasks, WebSocket
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import IntegrityError

from tests.acceptance.application import CLEAN, Application, Row
from tests.acceptance.checks import end_checks, rows_of
from tests.acceptance.drivers import on_all
from tests.asgi import http_scope

TAKEN = CLEAN - 1
KINDS = ["stream", "background", "threaded", "clash-in-stream", "clash-in-background"]
GOOD = 3  # the first three succeed


def with_tails(under: Application) -> None:
    """Add endpoints that write by `db.session` in a stream and in background tasks."""
    db = under.db

    async def write(i: int) -> None:
        db.session.add(Row(id=i, n=1))
        await db.session.flush()

    def write_in_thread(i: int) -> None:
        db.sync.session.add(Row(id=i, n=1))

    def stream_of(i: int) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield "first "
            await write(i)
            yield "second "
            await asyncio.sleep(0)

        return StreamingResponse(body())

    @under.app.post("/stream/{i}")
    async def stream(i: int) -> StreamingResponse:
        return stream_of(i)

    @under.app.post("/background/{i}")
    async def background(i: int, tasks: BackgroundTasks) -> None:
        tasks.add_task(write, i)

    @under.app.post("/threaded/{i}")
    async def threaded(i: int, tasks: BackgroundTasks) -> None:
        tasks.add_task(write_in_thread, i)

    @under.app.post("/clash-in-stream/{i}")
    async def clash_in_stream(i: int) -> StreamingResponse:
        return stream_of(TAKEN)

    @under.app.post("/clash-in-background/{i}")
    async def clash_in_background(i: int, tasks: BackgroundTasks) -> None:
        tasks.add_task(write, TAKEN)


def with_socket(under: Application) -> None:
    """Add a websocket that stores each number it is sent, and says so."""
    db = under.db

    @under.app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        async for number in websocket.iter_text():
            async with db.scope():
                db.session.add(Row(id=int(number), n=1))
            await websocket.send_text(number)


@on_all
@pytest.mark.timeout(240)
def test_what_a_tail_writes_is_stored_or_an_error(url, times, figures):
    """R15: streams and background tasks use `db.session`: stored, or raised; never silent."""
    under = Application(url)
    with_tails(under)
    under.db.install(under.app)
    count = times(50, 1000)

    async def main() -> tuple[set[int], int]:
        async with end_checks(under) as acknowledged:
            async with under.db.scope():
                under.db.session.add(Row(id=TAKEN, n=1))
            stored, raised = set(), 0
            for start in range(0, count, 10):
                numbers = range(start, start + 10)
                paths = [f"/{KINDS[i % len(KINDS)]}/{i}" for i in numbers]
                answers = await asyncio.gather(*[under.post(path) for path in paths])
                for i, answer in zip(numbers, answers, strict=True):
                    if i % len(KINDS) < GOOD:
                        assert (answer.error, answer.is_complete) == (None, True)
                        stored.add(i)
                    else:
                        assert isinstance(answer.error, IntegrityError)
                        raised += 1
            acknowledged.clear()  # hooks are not the subject here
            return stored, raised

    stored, raised = asyncio.run(main())
    present, _ = rows_of(url)
    assert present - {TAKEN} == stored
    figures(f"R15 {count} tails: {len(stored)} stored, {raised} errors raised, 0 silent")


@on_all
@pytest.mark.timeout(240)
def test_an_idle_websocket_holds_no_connection(url, times, figures):
    """R15: a socket that waits for a message has no connection; what it acknowledged is stored."""
    under = Application(url)
    with_socket(under)
    under.db.install(under.app)
    sockets, messages = 20, times(3, 50)

    async def main() -> set[int]:
        async with end_checks(under):
            open_sockets = [Socket(under.app) for _ in range(sockets)]
            stored: set[int] = set()
            for number in range(messages):
                sent = range(number * sockets, (number + 1) * sockets)
                asked = zip(open_sockets, sent, strict=True)
                stored |= set(await asyncio.gather(*[each.ask(i) for each, i in asked]))
                assert under.db.stats()["pool_checked_out"] == 0
            for each in open_sockets:
                await each.close()
            return stored

    stored = asyncio.run(main())
    assert len(stored) == sockets * messages
    assert rows_of(url)[0] == stored
    figures(f"R15 {sockets} sockets, {len(stored)} messages: 0 connections held while they wait")


class Socket:
    """A client of a websocket, in this process."""

    def __init__(self, app: Any) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.inbox.put_nowait({"type": "websocket.connect"})
        scope = http_scope("GET", "/socket") | {"type": "websocket", "subprotocols": []}
        self.task = asyncio.create_task(app(scope, self.inbox.get, self.outbox.put))

    async def ask(self, number: int) -> int:
        """Send a number, and return the one that comes back."""
        self.inbox.put_nowait({"type": "websocket.receive", "text": str(number)})
        async with asyncio.timeout(40):
            while (message := await self.outbox.get())["type"] != "websocket.send":
                pass
        return int(message["text"])

    async def close(self) -> None:
        """Hang up, and wait until the application has noticed."""
        self.inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await self.task
