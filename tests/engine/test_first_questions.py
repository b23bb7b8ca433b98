"""A connection that is lost at any of its first questions and answers, whoever asks."""

import secrets
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Column, MetaData, String, Table, event, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.util import await_only

from dbscope import ConfigurationError, DatabaseUnavailable, TransactionOutcomeUnknown
from dbscope.backends.mysql.backend import SCHEMA
from dbscope.once import metadata as table_of_once
from dbscope.outbox import AsyncOutbox, Outbox
from dbscope.outbox import metadata as table_of_outbox
from tests.asgi import ask
from tests.once.conftest import make_tables
from tests.support.look import until
from tests.support.proxy import Proxy
from tests.worlds import (
    MYSQL,
    Base,
    Both,
    Item,
    World,
    both_context,
    is_sqlite,
    plain_engine,
    waiting,
)

servers = pytest.mark.worlds(drivers=lambda driver: not is_sqlite(driver), places=["scope"])
mysql = pytest.mark.worlds(drivers=MYSQL.__contains__, places=["scope"])
MANY = 300
NOTHING = type(None)


def read(db: Both) -> None:
    db.execute(select(Item))


def read_in(db: Both, **scope: Any) -> None:
    with db.scope(**scope):
        read(db)


def read_in_block(db: Both) -> None:
    with db.atomic(isolation="SERIALIZABLE", timeout=30):
        read(db)


def lock(db: Both) -> None:
    with both_context(db.real.advisory_lock("job", timeout=5)):
        pass


def once(db: Both) -> None:
    with db.scope(), db.once(secrets.token_hex(8)):
        read(db)


def relay(db: Both) -> None:
    kind = AsyncOutbox if db.is_async else Outbox
    waiting(kind(db.real, print).relay_once)()


def answer(db: Both) -> None:
    """Raise what an endpoint has raised, and look at the status of its answer."""
    app, seen = FastAPI(), list[BaseException]()

    def endpoint() -> None:
        try:
            read(db)
        except BaseException as error:
            seen.append(error)
            raise

    app.get("/")(db.awaitable(endpoint))
    db.install(app)
    got = await_only(ask(app, "GET", "/"))
    if seen:
        assert got.status == 503
        raise seen[0]
    if got.status != 200:
        raise got.error or AssertionError(got.status)


WAYS: dict[str, Callable[[Both], Any]] = {
    "ping": lambda db: db.ping(),
    "scope": read_in,
    "readonly": lambda db: read_in(db, readonly=True),
    "autocommit": lambda db: read_in(db, atomic=False),
    "block": read_in_block,
    "request": answer,
    "schema": lambda db: db.ensure_schema(Base.metadata),
    "lock": lock,
    "once": once,
    "relay": relay,
}


OFTEN = ("ping", "block", "once")  # the others take minutes together
each_way = pytest.mark.parametrize(
    "way", [pytest.param(way, marks=() if way in OFTEN else pytest.mark.ci) for way in WAYS]
)


def failure(world: World, way: Callable[[Both], Any]) -> Exception | None:
    """Return what is raised there, if anything is; no connection may be held afterwards."""

    def story(db: Both) -> Exception | None:
        try:
            way(db)
        except Exception as error:
            return error
        finally:
            assert db.real.stats()["pool_checked_out"] == 0
        return None

    world.place = "request" if way is answer else "scope"  # the first has a loop
    failed: Exception | None = world.play(story)
    return failed


def failures(world: World, proxy: Proxy, way: Callable[[Both], Any]) -> Iterator[Exception | None]:
    """Give what is raised where the wire is cut at each message in turn, up to the last one."""
    for number in range(1, MANY):
        world.database = type(world.database)(proxy.through(world.url))
        proxy.cut_at(number)
        failed = failure(world, way)
        is_cut = proxy.is_in("pass_through")
        proxy.pass_through()
        if not is_cut:
            return
        yield failed


@servers
@each_way
def test_what_is_lost_is_told_by_one_of_our_errors(world: World, proxy: Proxy, way: str) -> None:
    """Not by the driver's, nor by what SQLAlchemy makes of it; what is done stays a success."""
    for metadata in (table_of_once, table_of_outbox):
        make_tables(world.look.url, metadata)
    kinds = [type(failed) for failed in failures(world, proxy, WAYS[way])]
    before = list(takewhile(lambda kind: kind is DatabaseUnavailable, kinds))
    at_commit = list(
        takewhile(lambda kind: kind is TransactionOutcomeUnknown, kinds[len(before) :])
    )
    behind = kinds[len(before) + len(at_commit) :]
    assert len(before) > 10
    assert len(at_commit) <= 5
    if way == "once":  # whose row tells what became of COMMIT
        assert set(behind) <= {DatabaseUnavailable, NOTHING}
    else:
        assert set(behind) <= {NOTHING}


@servers
def test_what_a_listener_sends_is_part_of_connecting(world: World, proxy: Proxy) -> None:
    """Wrong SQL will be wrong again, and a wire that is cut meanwhile is away."""
    for sql, kind in (("NONSENSE", ConfigurationError), ("SELECT 1", DatabaseUnavailable)):
        world.database = type(world.database)(proxy.through(world.url))

        def send(connection: Any, record: Any, sql: str = sql) -> None:
            if sql == "SELECT 1":
                proxy.cut_all()
            cursor = connection.cursor()
            cursor.execute(sql)
            cursor.close()

        event.listen(plain_engine(world.database), "connect", send)
        for way in (WAYS["ping"], read_in, lambda db: read_in(db, readonly=True)):
            assert type(failure(world, way)) is kind


@mysql
def test_a_schema_that_cannot_be_made_keeps_no_lock(world: World) -> None:
    """The lock is the session's, which would go back to the pool with it; it is ended."""
    wrong = MetaData()
    Table("wrong", wrong, Column("text", String(100_000)))

    def story(db: Both) -> None:
        with pytest.raises(OperationalError):
            db.ensure_schema(wrong)
        held = f"SELECT IS_USED_LOCK({SCHEMA})"
        assert until(lambda: world.look.scalar(held) is None)  # a server ends it a moment later

    world.play(story)
