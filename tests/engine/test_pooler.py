"""PgBouncer in transaction mode between us and PostgreSQL: by default everything is right."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import create_engine, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from dbscope import ConfigurationError, ReadOnlyViolation
from tests.asgi import Answer, ask
from tests.support.pgbouncer import PROGRAM, pgbouncer
from tests.worlds import Both, Item, World, insert, is_postgresql, record_statements

pytestmark = [
    pytest.mark.worlds(drivers=is_postgresql, places=["scope"]),
    pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed"),
]
MODES: dict[str, dict[str, Any]] = {
    "atomic": {},
    "autocommit": {"atomic": False},
    "read-only": {"readonly": True},
}
in_each_mode = pytest.mark.parametrize("mode", MODES)
PREPARED = 6  # so often psycopg sends a statement until it has prepared it
FEW, MANY = 150, 1000  # requests
AT_ONCE = 40
CONNECTIONS = {"pool_size": 8, "max_overflow": 0, "pool_timeout": 50}  # twice the pooler's
LEFT = "SELECT count(*) FROM pg_prepared_statements"


@pytest.fixture
def pooled(world: World) -> Iterator[World]:
    """The world, whose database is reached by PgBouncer."""
    with pgbouncer(world.url, "transaction") as url:
        world.url = url
        connect(world)
        yield world
        assert left_behind(url) == 0


def connect(world: World, **options: Any) -> None:
    """Let the database have these options, in addition to those that most have."""
    world.database = type(world.database)(world.url, engine_options=CONNECTIONS | options)
    record_statements(world)


def left_behind(url: str) -> int:
    """Return how many statements are prepared in the connections that others will get."""
    return sum(count for (count,) in on_each(url, LEFT))


def on_each(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement on each of the pooler's four connections to the server."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    clients = [psycopg.connect(plain, prepare_threshold=None) for _ in range(4)]
    try:
        cursors = [client.execute(statement) for client in clients]
        return [row for cursor in cursors if cursor.description for row in cursor.fetchall()]
    finally:
        for client in clients:
            client.commit()
            client.close()


# -- storms ----------------------------------------------------------------------------------------


def ask_back(db: Both, number: int) -> None:
    """Ask what has one right answer, by one of three statements."""
    shape = number % 3
    found = db.scalar(text(f"SELECT CAST(:number AS int) * 10 + {shape}"), {"number": number})
    assert found == number * 10 + shape


def write(db: Both, number: int) -> None:
    """Ask, store, ask for what was stored, and change several rows by one statement."""
    ask_back(db, number)
    item = insert(db, f"item {number}")
    assert db.scalar(select(Item.name).where(Item.id == item.id)) == f"item {number}"
    db.execute(text("UPDATE item SET name = name WHERE id = :id"), [{"id": item.id}, {"id": 0}])
    ask_back(db, number)


def read(db: Both, number: int) -> None:
    """Ask twice, and for a row."""
    ask_back(db, number)
    db.scalar(select(Item.name).where(Item.id == number))
    ask_back(db, number + 1)


WORK: dict[str, Callable[[Both, int], None]] = {
    "atomic": write,
    "autocommit": write,
    "read-only": read,
}


def application(world: World, mode: str) -> FastAPI:
    """Return an application whose requests do that work."""
    app, db, work = FastAPI(), Both(world.database), WORK[mode]

    def endpoint(number: int) -> None:
        work(db, number)

    async def async_endpoint(number: int) -> None:
        await db.awaitable(endpoint)(number)

    marks = {
        "atomic": lambda function: function,
        "autocommit": world.database.non_atomic_requests,
        "read-only": world.database.readonly,
    }
    app.post("/{number}")(marks[mode](async_endpoint if world.is_async else endpoint))
    world.database.install(app)
    return app


async def storm(app: FastAPI, requests: int) -> list[Answer]:
    """Send so many requests, some of them at once."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> Answer:
        async with room:
            return await ask(app, "POST", f"/{number}")

    return await asyncio.gather(*map(one, range(1, requests + 1)))


def weather(world: World, mode: str, requests: int) -> None:
    """Fail unless all of them succeed, and what is stored is what was acknowledged."""

    async def play() -> list[Answer]:
        app = application(world, mode)
        try:
            return await storm(app, requests)
        finally:
            ending = world.database.dispose
            await ending() if world.is_async else await asyncio.to_thread(ending)

    answers = asyncio.run(play())
    assert Counter(repr(answer.error) for answer in answers) == {"None": requests}
    assert Counter(answer.status for answer in answers) == {200: requests}
    stored = (
        {f"item {number}" for number in range(1, requests + 1)} if mode != "read-only" else set()
    )
    assert sorted(world.items()) == sorted(stored)


@in_each_mode
def test_a_storm(pooled: World, mode: str) -> None:
    """Stored is what was acknowledged, and no answer is another's."""
    weather(pooled, mode, FEW)


@pytest.mark.long
@pytest.mark.timeout(600)
@in_each_mode
def test_a_long_storm(pooled: World, mode: str) -> None:
    """The same, a thousand times."""
    weather(pooled, mode, MANY)


# -- what is different behind it -------------------------------------------------------------------


def prepare_much(db: Both, mode: dict[str, Any] | None = None) -> None:
    """Send one statement so often that a driver would have prepared it."""
    for _ in range(PREPARED):
        with db.scope(**(mode or {})):
            ask_back(db, 1)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_it_is_said_once(
    pooled: World, mode: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Not for each connection, and not for the read-only ones again."""

    def story(db: Both) -> None:
        with db.scope(), db.scope(), db.scope(readonly=True):
            for each in (db, db):
                ask_back(each, 3)
        prepare_much(db, mode)

    with caplog.at_level(logging.INFO, "dbscope"):
        pooled.play(story)
    told = [record.getMessage() for record in caplog.records if "pooler" in record.getMessage()]
    assert len(told) == 1
    assert "pgbouncer.md" in told[0]


def test_without_one_everything_is_as_it_was(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Statements are prepared, and nothing is said."""

    def story(db: Both) -> None:
        prepare_much(db)
        with db.scope():
            assert db.scalar(text(LEFT)) > 0

    with caplog.at_level(logging.INFO, "dbscope"):
        world.play(story)
    assert not [record for record in caplog.records if record.name == "dbscope"]


@pytest.mark.parametrize("mode", ["a read", "a block"])
def test_a_read_only_scope_cannot_write(pooled: World, mode: str) -> None:
    """The session is another's by the next statement, so each transaction says it; no SET stays."""
    looks_like_a_read = "SELECT sneak()"
    pooled.look.execute(
        "CREATE OR REPLACE FUNCTION sneak() RETURNS int LANGUAGE sql AS"
        " $$ INSERT INTO item (name) VALUES ('sneaky') RETURNING id $$"
    )

    def sneak(db: Both) -> None:
        if mode == "a read":
            db.scalar(text(looks_like_a_read))
        else:
            with db.atomic():
                db.scalar(text(looks_like_a_read))

    def story(db: Both) -> None:
        for number in range(8):
            with pytest.raises(ReadOnlyViolation), db.scope(readonly=True):
                sneak(db)
            with db.scope():
                insert(db, f"{number}")
                assert db.scalar(text("SHOW default_transaction_read_only")) == "off"

    pooled.play(story)
    assert len(pooled.items()) == 8


def test_a_given_engine_is_looked_at_too(pooled: World) -> None:
    """Whoever has made it."""
    create = create_async_engine if pooled.is_async else create_engine
    pooled.database = type(pooled.database)(engine=create(pooled.url, **CONNECTIONS))

    def story(db: Both) -> None:
        for mode in MODES.values():
            prepare_much(db, mode)

    pooled.play(story)


PREPARING: dict[str, dict[str, Any]] = {
    "psycopg": {"prepare_threshold": 0},
    "asyncpg": {
        "statement_cache_size": 100,
        "prepared_statement_cache_size": 100,
        "prepared_statement_name_func": lambda: "same",
    },
}


def test_who_wants_prepared_statements_is_told_what_is_wrong(world: World) -> None:
    """A pooler may keep account of them; this one does not, and the error names it."""

    def story(db: Both) -> None:
        for mode in MODES.values():
            with pytest.raises(ConfigurationError, match=r"pooler .*`connect_args`"):
                prepare_much(db, mode)

    with pgbouncer(world.url, "transaction") as url:
        on_each(url, "PREPARE _pg3_0 AS SELECT 1")
        on_each(url, "PREPARE same AS SELECT 1")
        world.url = url
        connect(world, connect_args=PREPARING[make_url(url).get_driver_name()])
        world.play(story)
