"""`atomic(timeout=)`: a deadline for all of the block, kept by the database and by us.

No test measures how long something took; each says who ended what.
"""

import asyncio
import re
import time
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.util import await_only

from dbscope import Rollback, TransactionTimeout, UnexpectedRollback
from tests.worlds import MYSQL, SLEEP, SYNC, Both, World, insert, is_postgresql, is_sqlite

pytestmark = pytest.mark.worlds(places=["scope"])

SHORT, LONG = 0.15, 60  # seconds

ON_SQLITE = """
    WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number)
    SELECT count(*) FROM number WHERE n < 0
"""


def run_for_ever(world: World, db: Both) -> None:
    """Run a statement that does not end by itself."""
    statement = ON_SQLITE if world.is_sqlite else SLEEP[backend_of(world)].format(LONG)
    db.execute(text(statement))


def backend_of(world: World) -> str:
    """Return the kind of server."""
    return "mysql" if world.driver in MYSQL else "postgresql"


def turn_the_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let time pass, as far as blocks know of it."""
    later = time.monotonic() + seconds
    monkeypatch.setattr("dbscope.unit.deadline.monotonic", lambda: later)


def ended_by(world: World, db: Both, seconds: float) -> str:
    """Let a deadline pass within a statement; return the database's word, if it was that."""
    timeout = pytest.raises(TransactionTimeout, match=r"\.py:\d+")
    with timeout as raised, db.scope(atomic=False), db.atomic(timeout=seconds):
        insert(db, "a")
        run_for_ever(world, db)
    return str(raised.value.__cause__ or "")


def test_the_database_ends_a_statement_at_the_deadline(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block is rolled back, and the connection is as good as before."""
    monkeypatch.setattr("dbscope.scopes.timeout.GRACE", LONG)  # a busy machine is no reason to help

    def story(db: Both) -> None:
        # A busy machine may need the time for the INSERT alone; then with more of it.
        words = (ended_by(world, db, seconds) for seconds in (SHORT, 10 * SHORT, 50 * SHORT))
        assert re.search("cancel|interrupted", next(filter(None, words)))
        with db.scope():
            insert(db, "b")
        assert db.stats()["connections_discarded"] == 0

    world.play(story)
    assert world.items() == ["b"]


def test_nothing_is_sent_when_the_time_is_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two statements it is us who look at the clock."""

    def story(db: Both) -> None:
        with pytest.raises(TransactionTimeout), db.scope(atomic=False), db.atomic(timeout=LONG):
            insert(db, "a")
            world.statements.clear()
            turn_the_clock(monkeypatch, LONG)
            insert(db, "b")

    world.play(story)
    assert world.sent() == ["ROLLBACK"]
    assert world.items() == []


@pytest.mark.worlds(drivers=lambda driver: driver in SYNC, places=["scope"])
def test_a_block_that_took_too_long_is_not_committed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though no statement was late."""

    def story(db: Both) -> None:
        with pytest.raises(TransactionTimeout), db.scope(atomic=False), db.atomic(timeout=LONG):
            insert(db, "a")
            turn_the_clock(monkeypatch, LONG)

    world.play(story)
    assert world.items() == []


@pytest.mark.worlds(drivers=lambda driver: driver not in SYNC, places=["scope"])
def test_async_code_is_ended_wherever_it_waits(world: World) -> None:
    """And not only where it waits for the database."""

    def story(db: Both) -> None:
        with pytest.raises(TransactionTimeout), db.scope(atomic=False), db.atomic(timeout=SHORT):
            insert(db, "a")
            await_only(asyncio.sleep(LONG))

    world.play(story)
    assert world.items() == []


def test_the_shorter_time_of_an_inner_block_ends_that_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E14: the outer one goes on, with its own time told to the database again."""
    monkeypatch.setattr("dbscope.scopes.timeout.GRACE", LONG)  # our way would end the connection

    def story(db: Both) -> None:
        with db.scope(atomic=False), db.atomic(timeout=LONG):
            insert(db, "outer")
            with pytest.raises(TransactionTimeout), db.atomic(timeout=SHORT):
                insert(db, "inner")
                run_for_ever(world, db)
            insert(db, "after")

    world.play(story)
    assert world.items() == ["outer", "after"]


@pytest.mark.parametrize("ends", ["well", "by a rollback"])
@pytest.mark.worlds(drivers=lambda driver: not is_sqlite(driver), places=["scope"])
def test_the_time_of_an_inner_block_ends_with_it(world: World, ends: str) -> None:
    """What is outside may take as long as the server allows to anybody."""
    limits: list[float] = []

    def story(db: Both) -> None:
        with db.scope():
            limits.append(limit_of(world, db))
            with db.atomic(timeout=LONG):
                limits.append(limit_of(world, db))
                db.set_rollback(ends != "well")
            with db.savepoint():
                limits.append(limit_of(world, db))
                raise Rollback
            limits.append(limit_of(world, db))
        with db.scope():
            limits.append(limit_of(world, db))

    world.database = type(world.database)(world.url, engine_options=limited(world))
    world.play(story)
    usual, inside, *after = limits
    assert usual == OWN_LIMIT > inside > 0
    assert after == [usual] * 3


OWN_LIMIT = 3600.0  # seconds


def limited(world: World) -> dict[str, Any]:
    """Return options for one connection on which the application has set a limit itself."""
    name = "max_statement_time" if world.driver in MYSQL else "statement_timeout"
    arguments = {
        "psycopg async": {"options": f"-c {name}={OWN_LIMIT:.0f}s"},
        "psycopg sync": {"options": f"-c {name}={OWN_LIMIT:.0f}s"},
        "asyncpg": {"server_settings": {name: f"{OWN_LIMIT:.0f}s"}},
    }.get(world.driver, {"init_command": f"SET SESSION {name} = {OWN_LIMIT:.0f}"})
    return {"pool_size": 1, "max_overflow": 0, "connect_args": arguments}


def limit_of(world: World, db: Both) -> float:
    """Return how many seconds the server gives to a statement now."""
    if world.driver in MYSQL:
        return float(db.scalar(text("SELECT @@max_statement_time")))
    setting = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"
    return float(db.scalar(text(setting))) / 1000


def test_a_longer_time_of_an_inner_block_changes_nothing(world: World) -> None:
    """E14: nor does an inner block without one."""

    def story(db: Both) -> None:
        for asked in ({"timeout": LONG}, {}):
            timeout = pytest.raises(TransactionTimeout)
            with timeout, db.scope(atomic=False), db.atomic(timeout=SHORT), db.atomic(**asked):
                insert(db, "inner")
                run_for_ever(world, db)

    world.play(story)
    assert world.items() == []


def test_a_swallowed_timeout_is_not_a_success(world: World) -> None:
    """As with every failure of a statement."""

    def story(db: Both) -> None:
        failure = pytest.raises((UnexpectedRollback, TransactionTimeout))
        with failure, db.scope(atomic=False), db.atomic(timeout=SHORT):
            insert(db, "a")
            with pytest.raises(TransactionTimeout):
                run_for_ever(world, db)

    world.play(story)
    assert world.items() == []


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_the_time_of_a_block_does_not_count_for_its_commit(world: World) -> None:
    """PostgreSQL would end a slow COMMIT (deferred constraints) by the same setting."""

    def story(db: Both) -> None:
        with db.scope(atomic=False), db.atomic(timeout=LONG):
            insert(db, "a")
        assert world.statements[-2:] == ["SET LOCAL statement_timeout TO DEFAULT", "COMMIT"]
        with db.scope(atomic=False):
            assert db.scalar(text("SHOW statement_timeout")) == "0"

    world.play(story)


def test_other_transactions_pay_nothing_for_it(world: World) -> None:
    """No statement is sent where no block asked for a time, on the same connection neither."""

    def story(db: Both) -> None:
        with db.scope(atomic=False), db.atomic(timeout=LONG):
            insert(db, "a")
        world.statements.clear()
        with db.scope(atomic=False), db.atomic():
            insert(db, "b")

    world.play(story)
    assert world.sent() == ["BEGIN", "INSERT", "COMMIT"]
