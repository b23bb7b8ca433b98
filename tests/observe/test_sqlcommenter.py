"""sqlcommenter: what the server is sent, and what it says that it is at."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import fastapi
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from sqlalchemy import insert, text

from dbscope import ConfigurationError, Database
from dbscope.observe import opentelemetry, sqlcommenter
from tests.scopes.stage import ALONE, Stage
from tests.worlds import Both, Item, World, is_postgresql, plain_engine, waiting

anyio = pytest.mark.anyio
alone = pytest.mark.worlds(places=[ALONE])
scope = pytest.mark.worlds(places=["scope"])
TAGS = "controller='{}',framework='fastapi%3A{}',route='%2Fthings%2F%7Bid%7D'"
# By which SQLAlchemy gets to know a server.
GREETINGS = ("select pg_catalog", "select current_schema", "show ", "SELECT DATABASE", "SELECT @@")


class Wire:
    """What drivers are given."""

    def __init__(self, database: Any) -> None:
        self.sent: list[str] = []
        dialect = plain_engine(database).dialect
        for name in ("do_execute", "do_executemany", "do_execute_no_params"):
            self._watch(dialect, name)

    def _watch(self, dialect: Any, name: str) -> None:
        ours = getattr(dialect, name)  # which calls the dialect's own, last of all
        send, status, execute, renew = ours.func, *ours.args

        def note(cursor: Any, sql: str, *args: Any, **kwargs: Any) -> None:
            if not sql.startswith(GREETINGS):
                self.sent.append(sql)
            execute(cursor, sql, *args, **kwargs)

        setattr(dialect, name, lambda *a, **k: send(status, note, renew, *a, **k))


@pytest.fixture
def wire(world: World) -> Iterator[Wire]:
    """Return what the drivers of a world are given, with comments in it."""
    remove = sqlcommenter.install(world.database, tags={"a b": "it's 5%/é"})
    yield Wire(world.database)
    remove()
    assert world.database.events.listeners == []
    assert world.database.events.listeners.comment is None


@anyio
@alone
async def test_a_statement_says_which_route_has_sent_it(stage: Stage) -> None:
    """By its template; and it is the same statement to the server, and to the watch."""
    remove = sqlcommenter.install(stage.real)
    stage.real.watch.start()
    wire = Wire(stage.real)
    endpoint = stage.route(lambda: stage.insert("a%b"), "/things/{id}")
    seen = await stage.ask(path="/things/1")
    (record,) = stage.real.watch.recent()
    stage.real.watch.stop()
    remove()
    assert seen.items == ["a%b"]
    (sent,) = [sql.replace("%%", "%") for sql in wire.sent if sql.startswith("INSERT")]
    assert sent.endswith(f" /*{TAGS.format(endpoint.__name__, fastapi.__version__)}*/")
    assert "/*" not in record.statements[0].sql.text


@scope
def test_what_is_said_is_encoded(world: World, wire: Wire) -> None:
    """A quote ends nothing, a % is none of the driver's, and keys are in their order."""

    def body(db: Both) -> None:
        db.execute(insert(Item).values(name="x%sy"))
        assert db.scalar(text("SELECT name FROM item WHERE name LIKE '%y' AND id > :n"), {"n": 0})

    world.run(body)
    assert world.items() == ["x%sy"]
    told = [sql.replace("%%", "%") for sql in wire.sent]
    assert len(told) == 2
    assert all(sql.endswith(" /*a%20b='it%27s%205%25%2F%C3%A9'*/") for sql in told)


@scope
def test_what_is_not_of_the_application_has_none(world: World, wire: Wire) -> None:
    """Nor has what has a comment already, or many sets of parameters at once."""

    def body(db: Both) -> None:
        db.execute(text("SELECT 1 /* mine */"))
        with db.savepoint():
            db.execute(text("SELECT 1 -- mine"))
        connection = db.session.connection()
        many = text("INSERT INTO item (name) VALUES (:name)"), [{"name": "a"}, {"name": "b"}]
        if world.is_async:
            waiting(connection.execute)(*many)
        else:
            connection.execute(*many)

    world.run(body)
    assert [sql for sql in wire.sent if "a%20b" in sql.replace("%%", "%")] == []
    assert any("SAVEPOINT" in sql for sql in wire.sent)
    assert world.items() == ["a", "b"]


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_the_server_shows_it(world: World) -> None:
    """Who looks for what a slow statement is of reads it there."""
    remove = sqlcommenter.install(world.database, tags={"application": "shop"})
    seen: list[Any] = []
    own = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    world.run(lambda db: seen.append(db.scalar(text(own))))
    remove()
    assert seen == [f"{own} /*application='shop'*/"]


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_the_same_text_is_prepared_once(world: World) -> None:
    """Tags of a route are the same each time, so that drivers find what they have prepared."""
    remove = sqlcommenter.install(world.database, tags={"application": "shop"})
    prepared: list[Any] = []
    count = text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%item%'")

    def body(db: Both) -> None:
        for _ in range(8):
            db.execute(text("SELECT name FROM item"))
        prepared.append(db.scalar(count))

    world.run(body)
    remove()
    assert prepared[0] >= 1


@scope
def test_a_trace_is_told_and_its_price(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Each text is one that no driver has prepared: that is said once, where it is so."""
    caplog.set_level(logging.WARNING, "dbscope")
    tracers = TracerProvider()
    removes = [
        opentelemetry.install(world.database, tracer_provider=tracers),
        sqlcommenter.install(world.database, traceparent=True),
    ]
    wire = Wire(world.database)

    def story(db: Both) -> None:
        with tracers.get_tracer("mine").start_as_current_span("mine") as span, db.scope():
            db.execute(text("SELECT 1"))
            db.execute(text("SELECT 2"))
            trace = f"{span.get_span_context().trace_id:032x}"
            assert all(f"/*traceparent='00-{trace}-" in sql for sql in wire.sent)

    world.play(story)
    tracers.shutdown()
    for remove in removes:
        remove()
    assert len({sql.rpartition("-")[0].rpartition("-")[2] for sql in wire.sent}) == 2  # spans
    warned = [each for each in caplog.messages if each.startswith("sqlcommenter:")]
    prepares = world.driver in {"psycopg async", "psycopg sync", "asyncpg", "inline"}
    assert len(warned) == prepares


def test_what_is_not_sampled_stays_as_it_is() -> None:
    """Nobody will look for it, so it need not cost anything."""
    database = Database("sqlite://")
    tracers = TracerProvider(sampler=ALWAYS_OFF)
    remove = sqlcommenter.install(database, traceparent=True)
    sent: list[str] = []
    with tracers.get_tracer("mine").start_as_current_span("mine"), database.scope():
        wire = Wire(database)
        database.execute(text("SELECT 1"))
        sent += wire.sent
    database.dispose()
    remove()
    assert sent == ["SELECT 1"]


@pytest.mark.parametrize(
    ("sql", "commented"),
    [
        ("SELECT 1", "SELECT 1 /*a='b'*/"),
        ("SELECT 1;", "SELECT 1 /*a='b'*/;"),
        ("SELECT 1 ; \n", "SELECT 1 /*a='b'*/;"),
    ],
)
def test_a_semicolon_stays_at_the_end(sql: str, commented: str) -> None:
    """The comment belongs to the statement before it."""
    assert sqlcommenter.with_comment(sql, "a='b'") == commented


def test_keys_and_values_are_encoded_and_sorted() -> None:
    """The example of the specification."""
    tags = {"tracestate": "congo=t61", "route": "/polls 1000", "name": "DROP TABLE FOO"}
    told = "name='DROP%20TABLE%20FOO',route='%2Fpolls%201000',tracestate='congo%3Dt61'"
    assert sqlcommenter.told_of(tags) == told


@pytest.mark.parametrize("tags", [{"port": 8000}, {"host": None}, {1: "a"}, ["a"]])
def test_a_tag_is_a_text(tags: Any) -> None:
    """What cannot be written is refused where it is given, and not by each statement."""
    db = Database("sqlite://")
    with pytest.raises(ConfigurationError, match="tags must be a mapping of texts"):
        sqlcommenter.install(db, tags=tags)
    assert db.events.listeners.comment is None


@scope
def test_a_comment_that_cannot_be_made_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch, failed_listeners: set[type]
) -> None:
    """Nothing that looks on may break the work."""
    monkeypatch.setattr(sqlcommenter, "of_scope", lambda unit: {"route": unit})
    remove = sqlcommenter.install(world.database)
    world.run(lambda db: db.execute(insert(Item).values(name="a")))
    remove()
    assert world.items() == ["a"]
    failed_listeners.clear()
