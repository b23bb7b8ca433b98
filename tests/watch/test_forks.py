"""A process that was forked while it was watched: nothing of its parent's is taken for its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from dbscope import AsyncDatabase, Database
from dbscope.observe import logs, opentelemetry, prometheus, sentry, sqlcommenter
from dbscope.watch.dispatch import Remembering
from dbscope.watch.page.app import Page
from dbscope.watch.share import answers, folder
from tests.worlds import World

PATIENCE = 8  # seconds
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.worlds(drivers={"psycopg sync", "pymysql"}.__contains__, places=["scope"]),
]


def in_child(function: Callable[[], object]) -> Any:
    """Return what a function returns in a child, which is killed if it waits for ever."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        os.write(writing, json.dumps(function(), default=repr).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        told = file.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(told)


@pytest.fixture(autouse=True)
def spool(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a folder of all databases that is empty."""
    monkeypatch.setenv("DBSCOPE_WATCH_DIR", str(short_path))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database[Any]]:
    """Return a database."""
    db = Database(f"sqlite:///{tmp_path}/a.db")
    yield db
    db.watch.stop()
    db.dispose()


def test_a_fork_while_the_folder_is_looked_for_stops_nobody(
    db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that forks as soon as it has started the watch: the end of the child would wait."""
    looks, go_on, of_database = threading.Event(), threading.Event(), folder.of_database

    def slowly(source: Any) -> Path:
        looks.set()
        go_on.wait(PATIENCE)
        return of_database(source)

    def leave() -> str | None:
        monkeypatch.setattr(folder, "of_database", of_database)
        assert db.watch.sharing is not None
        return db.watch.sharing.folder.name

    monkeypatch.setattr(folder, "of_database", slowly)
    db.watch.start()
    assert looks.wait(PATIENCE)
    name = in_child(leave)
    go_on.set()
    assert name == of_database(db._source).name


def test_nobody_takes_the_work_of_the_parent_for_that_of_the_child(db: Database[Any]) -> None:
    """Who waits for a connection there does not wait here for ever, in figures that are scraped."""
    registry = CollectorRegistry()
    logs.install(db)
    opentelemetry.install(db, tracer_provider=TracerProvider())
    prometheus.install(db, registry=registry)
    sentry.install(db)
    sqlcommenter.install(db)

    def known() -> list[list[int]]:
        found: list[Any] = [each for each in db.events.listeners if isinstance(each, Remembering)]
        names = ("open", "wanted", "held", "undecided", "sent", "drafts", "unanswered")
        return [[len(getattr(each, name, ())) for name in names] for each in found]

    with db.scope():
        db.execute(text("SELECT 1"))
        assert sum(map(sum, known())) > 5
        assert in_child(lambda: [known(), db.stats()["sessions"]]) == [[[0] * 7] * 4, 0]
    assert db.stats()["sessions"] == 1


def test_the_page_answers_in_a_child_too(db: Database[Any]) -> None:
    """Its threads were the parent's."""
    app = FastAPI(debug=True)
    db.watch.mount(app)
    page: Page = next(each.app for each in app.routes if getattr(each, "path", "") == "/_db")  # type: ignore[attr-defined]

    async def pid() -> Any:
        return await page.in_thread(os.getpid)

    assert asyncio.run(pid()) == os.getpid()
    time.sleep(0.1)  # the thread is idle
    assert in_child(lambda: [asyncio.run(pid()), os.getpid()][0]) != os.getpid()


ASKING = """
import os, sys
from sqlalchemy import text
from dbscope import Database
db = Database(sys.argv[1])

def connection():
    return getattr(db._source.watching._locks, "_connection", None)

def process():
    db.watch.start(share=False)
    with db.scope():
        db.execute(text(sys.argv[2]))
        while connection() is None:
            db.execute(text(sys.argv[2]))
    print(db.backend.process_of(connection()), flush=True)

process()
if not os.fork():
    process()
    os._exit(0)
os.wait()
process()
"""


def test_a_child_asks_the_server_for_locks_on_a_connection_of_its_own(world: World) -> None:
    """On that of its parent each would get the answers to the questions of the other."""
    command = [sys.executable, "-c", ASKING, world.url, world.sleep(0.3)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    own, of_child, later = done.stdout.split()
    assert own == later != of_child


def test_a_child_began_when_it_was_forked() -> None:
    """On the page, where a worker of a preloaded application had the age of its parent."""
    before = time.time()
    assert answers.process()["began"] < before < in_child(lambda: answers.process()["began"])


def test_an_async_database_counts_anew(tmp_path: Path) -> None:
    """Its companion, too: each process is one of its own on the page."""
    db = AsyncDatabase(f"sqlite:///{tmp_path}/b.db")

    async def work() -> None:
        async with db.scope():
            await db.execute(text("SELECT 1"))
        await db.dispose()

    asyncio.run(work())
    opened = "sessions"
    assert db.stats()[opened] == 1
    assert in_child(lambda: [db.stats()[opened], db.sync.stats()[opened]]) == [0, 0]
