"""OpenTelemetry: spans below those of requests, and metrics, by its own SDK."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import HTTPException
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.util import await_only

from dbscope import Database, PoolTimeout, TransactionOutcomeUnknown
from dbscope.observe import opentelemetry
from dbscope.testing import lose_commit_answer
from tests.scopes.stage import ALONE, INSIDE, Stage
from tests.worlds import Both, World, insert, is_postgresql, needs_late_check

pytestmark = [pytest.mark.anyio]
alone = pytest.mark.worlds(places=[ALONE])
scope = pytest.mark.worlds(places=["scope"])
PENDING = "db.client.connection.pending_requests"


@dataclass
class Telemetry:
    """What an SDK has got."""

    tracers: TracerProvider
    exporter: InMemorySpanExporter
    meters: MeterProvider
    reader: InMemoryMetricReader

    def install(self, *databases: Any) -> Callable[[], None]:
        """Tell it of these databases."""
        return opentelemetry.install(
            *databases, tracer_provider=self.tracers, meter_provider=self.meters
        )

    def spans(self) -> dict[str, ReadableSpan]:
        """Return the spans that have ended, by name; of equal ones the last."""
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def ours(self) -> str:
        """Return all that our spans tell."""
        spans = self.exporter.get_finished_spans()
        ours = [
            each
            for each in spans
            if (made := each.instrumentation_scope) and made.name == "dbscope"
        ]
        assert ours
        return str([span.to_json() for span in ours])

    def tree(self) -> list[str]:
        """Return `child < parent` of all spans that have ended, in the order of their begin."""
        spans = sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        names = {span.context.span_id: span.name for span in spans if span.context}
        return [
            f"{span.name} < {names.get(span.parent.span_id) if span.parent else None}"
            for span in spans
        ]

    def points(self, name: str) -> list[Any]:
        """Return the points of a metric."""
        data: Any = self.reader.get_metrics_data()
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Return an SDK that keeps all in memory."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    yield Telemetry(tracers, exporter, meters, reader)
    tracers.shutdown()
    meters.shutdown()


async def requested(stage: Stage, telemetry: Telemetry, body: Callable[[], Any]) -> Any:
    """Send a request to an application that FastAPI's instrumentation looks at."""
    stage.route(body, "/things/{id}")
    stage.wire()
    remove = telemetry.install(stage.real)
    FastAPIInstrumentor.instrument_app(
        stage.app,
        tracer_provider=telemetry.tracers,
        meter_provider=telemetry.meters,
        exclude_spans=["send", "receive"],
    )
    try:
        return await stage.ask(path="/things/1")
    finally:
        remove()
        FastAPIInstrumentor.uninstrument_app(stage.app)


@pytest.mark.worlds(places=[ALONE, INSIDE])
async def test_a_transaction_is_below_its_request_and_statements_below_it(
    stage: Stage, telemetry: Telemetry
) -> None:
    """In greenlets, threads and child tasks, whoever sends COMMIT."""
    seen = await requested(stage, telemetry, lambda: stage.insert("a"))
    assert seen.items == ["a"]
    assert telemetry.tree() == [
        "POST /things/{id} < None",
        "transaction < POST /things/{id}",
        "INSERT item < transaction",
        "COMMIT < transaction",
    ]
    spans = telemetry.spans()
    sent: Any = spans["INSERT item"]
    assert sent.kind is SpanKind.CLIENT
    assert sent.attributes["db.system.name"] == stage.world.look.url.get_backend_name()
    assert sent.attributes["db.operation.name"] == "INSERT"
    assert sent.attributes["db.collection.name"] == "item"
    assert sent.attributes["db.query.summary"] == "INSERT item"
    assert sent.attributes["db.query.text"].startswith("INSERT INTO item (name) VALUES (?")
    assert sent.attributes["code.file.path"].endswith("tests/scopes/stage.py")
    assert sent.attributes["code.line.number"] > 0
    whole: Any = spans["transaction"]
    assert whole.attributes["dbscope.outcome"] == "committed"
    assert whole.attributes["http.route"] == "/things/{id}"
    assert whole.start_time <= sent.start_time <= sent.end_time <= whole.end_time
    assert whole.start_time <= spans["COMMIT"].start_time <= spans["COMMIT"].end_time
    assert {span.status.status_code for span in spans.values()} == {StatusCode.UNSET}


@alone
async def test_a_span_of_the_application_keeps_what_is_sent_in_it(
    stage: Stage, telemetry: Telemetry
) -> None:
    """Such a statement is below that one, and has a link to its transaction."""

    def body() -> None:
        stage.insert("a")
        with telemetry.tracers.get_tracer("mine").start_as_current_span("mine"):
            stage.db.execute(text("SELECT name FROM item"))

    await requested(stage, telemetry, body)
    assert "SELECT item < mine" in telemetry.tree()
    assert "INSERT item < transaction" in telemetry.tree()
    spans = telemetry.spans()
    (link,) = spans["SELECT item"].links
    assert link.context == spans["transaction"].context
    attributes: Any = spans["SELECT item"].attributes
    assert attributes.get("db.response.returned_rows", 1) == 1  # its driver may not tell


@alone
@pytest.mark.parametrize("raised", [True, False])
async def test_an_error_for_the_client_is_none_of_ours(
    stage: Stage, telemetry: Telemetry, raised: bool
) -> None:
    """A 409 is told as the reason, and does not make the trace one that has failed."""

    def body() -> None:
        stage.insert("secret")
        raise HTTPException(409, "taken") if raised else KeyError("secret")

    await requested(stage, telemetry, body)
    span: Any = telemetry.spans()["transaction"]
    told = "HTTPException 409 'taken'" if raised else "KeyError"
    assert span.attributes["dbscope.outcome"] == "rolled_back"
    assert span.attributes["dbscope.reason"].startswith(f"{told} raised at tests/observe/")
    assert (span.status.status_code is StatusCode.ERROR) is not raised
    assert "COMMIT" not in telemetry.spans()
    assert "secret" not in telemetry.ours()


@alone
async def test_a_statement_that_fails_has_its_code(stage: Stage, telemetry: Telemetry) -> None:
    """As the database has it; its text, which may have what was entered, is left out."""

    def body() -> None:
        stage.insert("secret")
        stage.insert("secret")

    await requested(stage, telemetry, body)
    failed = [span for span in telemetry.exporter.get_finished_spans() if span.name[:6] == "INSERT"]
    span: Any = failed[-1]
    assert span.status.status_code is StatusCode.ERROR
    code = {"sqlite": "SQLITE_CONSTRAINT_UNIQUE", "postgresql": "23505", "mysql": "1062"}
    assert (
        span.attributes["db.response.status_code"] == code[stage.world.look.url.get_backend_name()]
    )
    assert (
        span.attributes["error.type"].endswith("Error") or "Unique" in span.attributes["error.type"]
    )
    assert "secret" not in telemetry.ours()
    points = telemetry.points("db.client.operation.duration")
    assert {point.attributes.get("error.type") for point in points} == {
        None,
        span.attributes["error.type"],
    }


@needs_late_check
@alone
async def test_a_commit_that_fails_is_told_as_such(stage: Stage, telemetry: Telemetry) -> None:
    """SQLAlchemy's event `commit`, which others take for it, comes before COMMIT is sent."""
    await requested(stage, telemetry, stage.insert_orphan)
    spans = telemetry.spans()
    assert spans["COMMIT"].status.status_code is StatusCode.ERROR
    whole: Any = spans["transaction"]
    assert whole.status.status_code is StatusCode.ERROR
    assert whole.attributes["dbscope.outcome"] == "commit_failed"
    (point,) = telemetry.points("dbscope.transaction.duration")
    assert point.attributes["dbscope.outcome"] == "commit_failed"


@scope
def test_a_commit_without_an_answer_is_unknown(world: World, telemetry: Telemetry) -> None:
    """Nobody says that it was stored, nor that it was not."""
    remove = telemetry.install(world.database)

    def story(db: Both) -> None:
        with (
            lose_commit_answer(world.database),
            pytest.raises(TransactionOutcomeUnknown),
            db.scope(),
        ):
            insert(db, "a")

    world.play(story)
    remove()
    span: Any = telemetry.spans()["transaction"]
    assert span.attributes["dbscope.outcome"] == "unknown"
    assert span.status.status_code is StatusCode.ERROR


@scope
def test_metrics_have_the_names_of_the_conventions(world: World, telemetry: Telemetry) -> None:
    """The use of a connection, the wait for it, its operations, and who is there now."""
    remove = telemetry.install(world.database)
    pool = f"default/{'async' if world.is_async else 'sync'}"
    used: list[Any] = []

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
            used.extend(telemetry.points("db.client.connection.count"))

    world.play(story)
    now = {(p.attributes["db.client.connection.state"], p.value) for p in used}
    assert ("used", 1) in now
    assert {p.attributes["db.client.connection.pool.name"] for p in used} == {pool}
    for name in ("wait_time", "use_time"):
        (point,) = telemetry.points(f"db.client.connection.{name}")
        assert point.count == 1
        assert dict(point.attributes) == {"db.client.connection.pool.name": pool}
    (operation,) = telemetry.points("db.client.operation.duration")
    assert operation.explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
    assert operation.attributes["db.operation.name"] == "INSERT"
    (pending,) = telemetry.points(PENDING)
    assert pending.value == 0
    (whole,) = telemetry.points("dbscope.transaction.duration")
    assert whole.attributes["dbscope.outcome"] == "committed"
    remove()
    assert telemetry.points("db.client.connection.count") == []


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_a_full_pool_is_a_span_and_a_timeout(world: World, telemetry: Telemetry) -> None:
    """Who waits is counted while it lasts, and its wait is seen in the trace."""
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.3}
    world.database = type(world.database)(world.url, engine_options=options)
    remove = telemetry.install(world.database)

    def hold(db: Both, meet: Callable[[], Any]) -> None:
        with db.scope():
            db.execute(text("SELECT 1"))
            meet()
            until(lambda: any(point.value for point in telemetry.points(PENDING)), world)
            meet()

    def wait(db: Both, meet: Callable[[], Any]) -> None:
        meet()
        with pytest.raises(PoolTimeout), db.scope():
            db.execute(text("SELECT 1"))
        meet()

    def story(db: Both) -> None:
        meet = world.barrier(2)
        world.at_once(lambda: hold(db, meet), lambda: wait(db, meet))

    world.play(story)
    remove()
    span = telemetry.spans()["wait for a connection"]
    assert span.status.status_code is StatusCode.ERROR
    (timeouts,) = telemetry.points("db.client.connection.timeouts")
    assert timeouts.value == 1


def until(is_so: Callable[[], bool], world: World) -> None:
    """Wait until it is so, as the code of this world waits."""
    while not is_so():
        if world.is_async:
            await_only(asyncio.sleep(0.001))
        else:
            time.sleep(0.001)


@scope
def test_many_scopes_at_once_are_many_traces(world: World, telemetry: Telemetry) -> None:
    """Each has its own statements and no other's, in tasks and in threads."""
    tracer = telemetry.tracers.get_tracer("mine")
    remove = telemetry.install(world.database)

    def work(db: Both, number: int) -> None:
        with tracer.start_as_current_span(f"work {number}"), db.scope():
            db.execute(text(f"SELECT {number} AS n{number}"))
            db.execute(text("SELECT 1"))

    world.play(lambda db: world.at_once(*(lambda n=n: work(db, n) for n in range(4))))  # type: ignore[misc]
    remove()
    spans = telemetry.exporter.get_finished_spans()
    for span in spans:
        if span.name == "SELECT":
            parent = next(
                s for s in spans if span.parent and s.context.span_id == span.parent.span_id
            )  # type: ignore[union-attr]
            assert parent.name == "transaction"
    traces = {span.context.trace_id for span in spans if span.context}
    assert len(traces) == 4
    for one in traces:
        names = sorted(s.name for s in spans if s.context and s.context.trace_id == one)
        assert [n for n in names if n != "COMMIT"][:3] == ["SELECT", "SELECT", "transaction"]


def test_what_was_installed_again_is_there_once(telemetry: Telemetry) -> None:
    """An application that is made anew for each test installs it again and again."""
    database = Database("sqlite://")
    first, second = telemetry.install(database), telemetry.install(database.async_)
    assert len(database.events.listeners) == 1
    first()
    assert len(database.events.listeners) == 1
    second()
    assert database.events.listeners == []


def test_without_a_request_there_is_a_trace_of_its_own(telemetry: Telemetry) -> None:
    """A script has no span around."""
    database = Database("sqlite://")
    remove = telemetry.install(database)
    with pytest.raises(IntegrityError), database.scope():
        database.execute(text("CREATE TABLE t (a INTEGER PRIMARY KEY)"))
        for _ in range(2):
            database.execute(text("INSERT INTO t VALUES (1)"))
    database.dispose()
    remove()
    assert telemetry.tree()[0] == "transaction < None"
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert issubclass(IntegrityError, DBAPIError)
