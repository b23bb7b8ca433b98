"""All of them at once, wherever work comes in: websockets, hooks, sandboxes, cancelled tasks."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from starlette.testclient import TestClient

from dbscope import AsyncDatabase, Database, PartialCommit
from dbscope.observe import logs, opentelemetry, prometheus, sentry, sqlcommenter
from dbscope.testing import fail_commit

INSERT = "INSERT INTO item (name) VALUES ('{}')"


class All:
    """All of them, told of what happens."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.registry = CollectorRegistry()
        self.databases: list[Any] = []
        self.removes: list[Callable[[], None]] = []

    def __call__(self, kind: type[Any], path: Path, name: str = "default") -> Any:
        """Return a database that they are told of, with a table."""
        database = kind(f"sqlite:///{path}/{name}.db", name=name)
        with contextlib.closing(sqlite3.connect(path / f"{name}.db")) as connection:
            connection.execute("CREATE TABLE item (name TEXT UNIQUE)")
        self.removes += [
            opentelemetry.install(database, tracer_provider=self.tracers),
            prometheus.install(database, registry=self.registry),
            sentry.install(database),
            logs.install(database),
            sqlcommenter.install(database, traceparent=True),
        ]
        self.databases.append(database)
        return database

    def outcomes(self) -> list[tuple[Any, Any]]:
        """Return the scope and the outcome of each transaction that had a span."""
        whole = [each for each in self.spans.get_finished_spans() if each.name == "transaction"]
        return [(told(each, "dbscope.scope"), told(each, "dbscope.outcome")) for each in whole]

    def end(self) -> None:
        """End them."""
        for remove in self.removes:
            remove()
        for database in self.databases:
            database.watch.stop()
            assert database.events.listeners == []
        self.tracers.shutdown()


def told(span: ReadableSpan, name: str) -> Any:
    """Return an attribute of a span."""
    return (span.attributes or {}).get(name)


@pytest.fixture
def everything() -> Iterator[All]:
    """Return all of them."""
    made = All()
    yield made
    made.end()


def test_a_websocket_has_its_statements_and_its_messages(everything: All, tmp_path: Path) -> None:
    """The connection autocommits; a scope in it is a message."""
    db, app = everything(AsyncDatabase, tmp_path), FastAPI()
    db.install(app)

    @app.websocket("/socket/{id}")
    async def serve(websocket: WebSocket) -> None:
        await websocket.accept()
        assert await db.scalar(text("SELECT count(*) FROM item")) == 0
        async with db.scope():
            await db.execute(text(INSERT.format("a")))
        await websocket.close()

    with TestClient(app) as client, client.websocket_connect("/socket/1") as socket:
        assert socket.receive()["type"] == "websocket.close"
    records = {each.kind: each for each in db.watch.recent()}
    assert records["websocket"].route == "WEBSOCKET /socket/{id}"
    assert ("websocket message", "committed") in everything.outcomes()


async def attempt(db: Any, began: asyncio.Event) -> None:
    """Write, and wait for ever."""
    async with db.scope():
        await db.execute(text(INSERT.format("a")))
        began.set()
        await asyncio.sleep(60)


@pytest.mark.anyio
async def test_who_is_cancelled_is_rolled_back_without_an_error(
    everything: All, tmp_path: Path
) -> None:
    """A client that has left is nobody's fault."""
    db, began = everything(AsyncDatabase, tmp_path), asyncio.Event()
    task = asyncio.create_task(attempt(db, began))
    await began.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await db.dispose()
    assert everything.outcomes() == [("scope", "rolled_back")]
    (span,) = [each for each in everything.spans.get_finished_spans() if each.name == "transaction"]
    assert span.status.status_code is StatusCode.UNSET
    assert str(told(span, "dbscope.reason")).startswith("cancelled at tests/observe/")


@pytest.mark.anyio
async def test_a_hook_has_a_transaction_of_its_own(everything: All, tmp_path: Path) -> None:
    """And one inside another has both, whichever ends first."""
    db = everything(AsyncDatabase, tmp_path)

    async def hook() -> None:
        await db.execute(text(INSERT.format("hook")))

    async with db.scope():
        await db.execute(text("SELECT 1"))
        async with db.scope():
            await db.execute(text("SELECT 2"))
        db.on_commit(hook)
    await db.dispose()
    assert sorted(everything.outcomes()) == [
        ("hook", "committed"),
        ("scope", "committed"),
        ("scope", "committed"),
    ]


def test_of_two_databases_each_tells_its_own(everything: All, tmp_path: Path) -> None:
    """Also where one is committed, and the other is not."""
    first = everything(Database, tmp_path, "first")
    second = everything(Database, tmp_path, "second")
    with pytest.raises(PartialCommit), fail_commit(second), first.scope():
        first.execute(text(INSERT.format("a")))
        second.execute(text(INSERT.format("a")))
    for database in (first, second):
        database.dispose()
    outcomes = {
        told(each, "dbscope.database"): told(each, "dbscope.outcome")
        for each in everything.spans.get_finished_spans()
        if each.name == "transaction"
    }
    assert outcomes == {"first": "committed", "second": "commit_failed"}


@pytest.mark.parametrize("kind", [Database, AsyncDatabase])
def test_in_a_sandbox_all_is_told_as_outside(
    everything: All, tmp_path: Path, kind: type[Any]
) -> None:
    """The application has committed, though nothing of it stays."""
    db = everything(kind, tmp_path)
    plain = db.sync if kind is AsyncDatabase else db
    with db.sandbox(), plain.scope():
        plain.execute(text(INSERT.format("a")))
    assert everything.outcomes() == [("test", "committed")]
    with plain.scope():
        assert plain.scalar(text("SELECT count(*) FROM item")) == 0
    plain.dispose()


def test_what_is_taken_away_in_the_middle_leaves_nothing(everything: All, tmp_path: Path) -> None:
    """A transaction that began before is one that nobody hears the end of, or the begin of."""
    db = everything(Database, tmp_path)
    with db.scope():
        db.execute(text("SELECT 1"))
        for remove in everything.removes:
            remove()
    with db.scope():
        db.execute(text("SELECT 1"))
        again = opentelemetry.install(db, tracer_provider=everything.tracers)
        db.execute(text("SELECT 2"))
    again()
    db.dispose()
    assert everything.outcomes() == []
