"""Websockets at a real server, with a real client: idle ones hold nothing, cut ones leak none."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.acceptance.shop import ROOT
from tests.scopes.stage import eventually
from tests.support import warm
from tests.support.look import Onlooker

APPLICATION = """
import asyncio
import os

from fastapi import FastAPI, WebSocket
from sqlalchemy import text

from dbscope import AsyncDatabase

db = AsyncDatabase(os.environ["DATABASE_URL"], engine_options={POOL})
app = FastAPI()
db.install(app)
served = set()


@app.websocket("/notes")
async def notes(websocket: WebSocket):
    served.add(websocket)
    try:
        await serve(websocket)
    finally:
        served.discard(websocket)


async def serve(websocket: WebSocket):
    await db.execute(text("SELECT 1"))
    await websocket.accept()
    async for words in websocket.iter_text():
        async with db.scope():
            await db.execute(text("INSERT INTO notes (words) VALUES (:words)"), {"words": words})
            if words.startswith("slow"):
                await asyncio.sleep(0.2)
            if words == "stuck":
                await asyncio.Event().wait()
            if words == "bad":
                raise ValueError(words)
        await websocket.send_text(words)


@app.websocket("/refused")
async def refused(websocket: WebSocket):
    async with db.scope():
        await db.execute(text("INSERT INTO notes (words) VALUES ('refused')"))
        await db.execute(text("INSERT INTO notes (words) VALUES (NULL)"))
    await websocket.accept()


@app.get("/stats")
async def stats():
    return {**db.stats(), "served": len(served)}
"""


@pytest.fixture(params=["sqlite", "psycopg", "asyncpg", "mysql"])
def url(request, tmp_path) -> Iterator[str]:
    """A database with a table."""
    server: Any = None
    made = f"sqlite:///{tmp_path}/notes.db"
    if request.param != "sqlite":
        kind = "mysql_server" if request.param == "mysql" else "postgres"
        server = request.getfixturevalue(kind)
        made = server.new_database("sockets")
    with Onlooker(made) as look:
        look.execute("CREATE TABLE notes (words VARCHAR(100) NOT NULL)")
    driver = "postgresql+asyncpg" if request.param == "asyncpg" else None
    yield made.replace("+pymysql", "") if driver is None else re.sub(r"^[^:]+", driver, made)
    if server is not None:
        server.drop_database(made)


@pytest.fixture
def look(url: str) -> Iterator[Onlooker]:
    """Another client of the database."""
    plain = url.replace("mysql:", "mysql+pymysql:").replace("+asyncpg", "+psycopg")
    with Onlooker(plain) as onlooker:
        yield onlooker


class Running:
    """A server, and what it has said."""

    def __init__(self, process: warm.Popen, log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def address(self) -> str:
        """Return where it listens."""
        deadline = time.monotonic() + 40
        while not (found := re.search(r"running on http://(\S+)", self.log.read_text())):
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return found[1]

    async def stats(self) -> dict[str, int]:
        """Return the counters of the database, and how many sockets are served."""
        host, port = self.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /stats HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 40)
        writer.close()
        await writer.wait_closed()
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    async def checked_out(self) -> int:
        """Return how many connections of the pool are out."""
        return (await self.stats())["pool_checked_out"]

    async def until_alone(self) -> None:
        """Wait until it serves nobody: some may be in the middle of their message."""
        async with asyncio.timeout(40):
            while (await self.stats())["served"]:  # noqa: ASYNC110  (it is another process)
                await asyncio.sleep(0.05)

    async def open(self, path: str) -> ClientConnection:
        """Open a websocket."""
        return await connect(f"ws://{self.address}{path}", open_timeout=40, ping_interval=None)


@contextmanager
def running(url: str, folder: Path, *options: str) -> Iterator[Running]:
    """Run the application, with five connections."""
    pool = "" if url.startswith("sqlite") else '"pool_size": 5, "max_overflow": 0'
    (folder / "sockets.py").write_text(APPLICATION.replace("POOL", pool))
    environment = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": f"{ROOT / 'src'}:{folder}"}
    log = folder / "log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "uvicorn", "sockets:app", "--port", "0", *options]
        process = warm.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        yield Running(process, log)
    finally:
        process.terminate()
        process.wait(40)


def notes(look: Onlooker) -> list[str]:
    """Return what is stored."""
    return [words for (words,) in look.rows("SELECT words FROM notes ORDER BY words")]


def is_free(look: Onlooker, url: str) -> bool:
    """Tell whether nobody is in a transaction, and the turn to write is free."""
    if url.startswith("sqlite"):
        return look.write_lock_is_free()
    return look.idle_in_transaction(patience=1) == []


@pytest.mark.timeout(240)
def test_idle_sockets_hold_no_connection(url, look, tmp_path, times, figures):
    """A thousand of them, each of which has used the database, and five connections."""
    number = times(100, 1000)

    async def main(server: Running) -> None:
        sockets = [await server.open("/notes") for _ in range(number)]
        for index, socket in enumerate(sockets):
            await socket.send(f"{index:04}")
            assert await socket.recv() == f"{index:04}"
        assert await server.checked_out() == 0
        await eventually(lambda: is_free(look, url))  # the server hears of it a moment later
        assert notes(look) == [f"{index:04}" for index in range(number)]
        await asyncio.gather(*(socket.close() for socket in sockets))

    with running(url, tmp_path) as server:
        asyncio.run(main(server))
    assert "Traceback" not in server.log.read_text()
    figures(f"{number} idle sockets: 0 connections held")


@pytest.mark.timeout(240)
def test_sockets_that_are_cut_leak_nothing(url, look, tmp_path, times, figures):
    """In the middle of a message too: what is stored is each message as a whole."""
    number = times(20, 200)

    async def cut(server: Running, index: int) -> bool:
        socket = await server.open("/notes")
        await socket.send(f"slow {index}")
        with suppress(TimeoutError, ConnectionClosed):
            async with asyncio.timeout((0, 0.1, 40)[index % 3]):
                await socket.recv()
                await socket.close()
                return True
        socket.transport.abort()
        return False

    async def main(server: Running) -> set[str]:
        acknowledged: set[str] = set()
        for start in range(0, number, 5):
            group = range(start, min(start + 5, number))
            told = await asyncio.gather(*(cut(server, index) for index in group))
            acknowledged |= {f"slow {i}" for i, is_told in zip(group, told, strict=True) if is_told}
        await server.until_alone()
        assert await server.checked_out() == 0
        await eventually(lambda: is_free(look, url))  # the server hears of it a moment later
        return acknowledged

    with running(url, tmp_path) as server:
        acknowledged = asyncio.run(main(server))
        assert len(acknowledged) >= number // 3
        assert acknowledged <= set(notes(look))
    figures(f"{number} sockets, some cut: {len(acknowledged)} acknowledged, none lost, 0 held")


def test_a_message_that_fails_is_closed_with_1011_and_a_refusal_is_an_answer(url, look, tmp_path):
    """Whatever the server makes of an exception by itself: uvicorn just hangs up."""

    async def main(server: Running) -> None:
        socket = await server.open("/notes")
        await socket.send("good")
        assert await socket.recv() == "good"
        await socket.send("bad")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
        with pytest.raises(InvalidStatus) as refused:
            await server.open("/refused")
        assert refused.value.response.status_code == 500
        assert notes(look) == ["good"]
        assert await server.checked_out() == 0

    with running(url, tmp_path) as server:
        asyncio.run(main(server))


def test_a_server_that_stops_rolls_back_what_is_under_way(url, look, tmp_path):
    """It cancels what does not end in time."""

    async def main(server: Running) -> None:
        socket = await server.open("/notes")
        await socket.send("stuck")
        await eventually(lambda: not is_free(look, url))
        server.process.terminate()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        await eventually(lambda: server.process.poll() is not None)
        await eventually(lambda: is_free(look, url))  # the server hears of it a moment later
        assert notes(look) == []

    with running(url, tmp_path, "--timeout-graceful-shutdown", "1") as server:
        asyncio.run(main(server))
