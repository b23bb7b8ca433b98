"""A client that is slow, at a real server whose application asks the database before it reads."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.shop import ROOT
from tests.support import warm

APPLICATION = """
import os
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import text

from dbscope import AsyncDatabase

db = AsyncDatabase(os.environ["DATABASE_URL"], client_wait=1, engine_options={POOL})
app = FastAPI()


@app.middleware("http")
async def who(request, call_next):
    if request.url.path == "/by-middleware":
        await db.execute(text("SELECT 1"))
    if request.url.path == "/by-plain-middleware":
        await run_in_threadpool(lambda: db.sync.execute(text("SELECT 1")))
    return await call_next(request)


db.install(app)  # outermost, since it is added last


async def user():
    await db.execute(text("INSERT INTO notes (words) VALUES ('by the dependency')"))


@app.post("/by-dependency", dependencies=[Depends(user)])
async def by_dependency(request: Request):
    await request.form()


@app.post("/by-middleware")
async def by_middleware(note: dict):
    pass


@app.post("/by-plain-middleware")
def by_plain_middleware(note: dict):
    pass


@app.post("/notes")
async def note():
    await db.execute(text("INSERT INTO notes (words) VALUES ('stored')"))


@app.get("/notes")
async def notes():
    return (await db.scalars(text("SELECT words FROM notes"))).all()
"""
PATHS = ["/by-dependency", "/by-middleware", "/by-plain-middleware"]


@pytest.fixture(params=["sqlite", "psycopg", "mysql"])
def url(request, tmp_path) -> Iterator[str]:
    """A database with a table."""
    from tests.support.look import Onlooker

    server: Any = None
    made = f"sqlite:///{tmp_path}/notes.db"
    if request.param != "sqlite":
        kind = "postgres" if request.param == "psycopg" else "mysql_server"
        server = request.getfixturevalue(kind)
        made = server.new_database("slow")
    with Onlooker(made) as look:
        look.execute("CREATE TABLE notes (words VARCHAR(100))")
    yield made.replace("+pymysql", "")
    if server is not None:
        server.drop_database(made)


@contextmanager
def running(url: str, folder: Path) -> Iterator[str]:
    """Run the application, with two connections; give where it listens."""
    pool = "" if url.startswith("sqlite") else '"pool_size": 2, "max_overflow": 0'
    (folder / "slow.py").write_text(APPLICATION.replace("POOL", pool))
    environment = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": f"{ROOT / 'src'}:{folder}"}
    log = folder / "log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "uvicorn", "slow:app", "--port", "0"]
        process = warm.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 40
        while not (found := re.search(r"running on (http://\S+)", log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield found[1]
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)


class Trickle(threading.Thread):
    """A client that sends a byte now and then, for as long as it is listened to."""

    def __init__(self, base: str, path: str) -> None:
        super().__init__(daemon=True)
        host, port = base.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), 30)
        kind = "application/x-www-form-urlencoded" if "dependency" in path else "application/json"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: 9999\r\n"
        )
        self.socket.sendall(head.encode() + b"\r\n ")
        self.answer = b""

    def run(self) -> None:
        self.socket.settimeout(0.1)
        for _ in range(300):
            try:
                if not (piece := self.socket.recv(4096)):
                    return
                self.answer += piece
            except TimeoutError:
                try:
                    self.socket.send(b" ")
                except OSError:
                    return
            except OSError:
                return


@pytest.mark.parametrize("path", PATHS)
def test_no_client_holds_a_transaction_open(url, tmp_path, path):
    """Five of them at two connections, and one turn to write: all are told 408, and hung up on."""
    with running(url, tmp_path) as base, httpx2.Client(base_url=base, timeout=30) as client:
        slow = [Trickle(base, path) for _ in range(5)]
        for each in slow:
            each.start()
        for each in slow:
            each.join(40)
            each.socket.close()
            assert each.answer.startswith((b"HTTP/1.1 408", b"HTTP/1.1 503")), each.answer
            assert b"connection: close" in each.answer.lower() or b" 503" in each.answer
        assert any(each.answer.startswith(b"HTTP/1.1 408") for each in slow)
        assert client.post("/notes").status_code == 200
        assert client.get("/notes").json() == ["stored"]
