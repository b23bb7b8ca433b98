"""A connection that failed in a way that will fail again does not go back to the pool."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only

from dbscope import DatabaseUnavailable, ReadOnlyViolation
from tests.asgi import ask
from tests.conflicts import with_options
from tests.worlds import DRIVERS, MYSQL, Both, World, insert, is_postgresql, is_sqlite

servers = pytest.mark.worlds(drivers=lambda driver: not is_sqlite(driver), places=["scope"])
postgres = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
mysql = pytest.mark.worlds(drivers=lambda driver: driver in MYSQL, places=["scope"])
MODES: dict[str, dict[str, Any]] = {
    "atomic": {},
    "autocommit": {"atomic": False},
    "read-only": {"readonly": True},
}
in_each_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
PREPARED = 6  # so often it is sent until psycopg has prepared it


# -- stale plans -----------------------------------------------------------------------------------


@contextmanager
def a_table(world: World) -> Iterator[None]:
    """Have a table that somebody else will alter."""
    world.look.execute("DROP TABLE IF EXISTS plan")
    world.look.execute("CREATE TABLE plan (id serial PRIMARY KEY, name text DEFAULT 'a')")
    world.look.execute("INSERT INTO plan DEFAULT VALUES")
    try:
        yield
    finally:
        world.look.execute("DROP TABLE plan")


def alter(world: World, db: Both) -> None:
    """Alter the table, as a migration does."""
    world.look.execute("ALTER TABLE plan ADD COLUMN more text DEFAULT 'b'")


def deallocate(world: World, db: Both) -> None:
    """Take the server's prepared statements away, which the driver cannot see."""
    db.execute(text("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"))


def make_type_anew(world: World, db: Both) -> None:
    """Drop a type, and make it again, with more values."""
    world.look.execute("ALTER TABLE plan DROP COLUMN mood")
    world.look.execute("DROP TYPE mood")
    world.look.execute("CREATE TYPE mood AS ENUM ('good', 'bad', 'so so')")
    world.look.execute("ALTER TABLE plan ADD COLUMN mood mood DEFAULT 'good'")


STALE = {"0A000": alter, "26000": deallocate}
make_stale = pytest.mark.parametrize("make_stale", STALE.values(), ids=STALE)
READ = text("SELECT * FROM plan WHERE id = 1")
WRITE = text("INSERT INTO plan DEFAULT VALUES RETURNING *")


def send(db: Both, statement: Any, mode: dict[str, Any]) -> list[Any]:
    """Send a statement in a scope of its own."""
    with db.scope(**mode):
        return list(db.execute(statement).all())


@postgres
@in_each_mode
@make_stale
@pytest.mark.parametrize("statement", [READ, WRITE], ids=["a read", "a write"])
def test_a_first_statement_whose_plan_is_stale_is_repeated(
    world: World, mode: dict[str, Any], make_stale: Callable[..., None], statement: Any
) -> None:
    """Nothing was done before it, so nobody hears of it; and it is done once."""
    if mode.get("readonly"):
        statement = READ

    def story(db: Both) -> None:
        for _ in range(PREPARED):
            send(db, statement, mode)
        with db.scope():
            make_stale(world, db)
        for _ in range(3):
            (row,) = send(db, statement, mode)
            assert make_stale is deallocate or row.more == "b"

    with a_table(world):
        world.play(story)
        stored = world.look.scalar("SELECT count(*) FROM plan")
    assert stored == 1 + (PREPARED + 3 if statement is WRITE else 0)


@postgres
@in_each_mode
def test_a_first_statement_with_a_type_that_was_made_anew_is_repeated(
    world: World, mode: dict[str, Any]
) -> None:
    """The server has the type of a parameter in the plan, and knows it no more: an XX000."""
    typed = text("SELECT CAST(:mood AS mood)").bindparams(mood="good")

    def story(db: Both) -> None:
        for _ in range(PREPARED):
            send(db, typed, mode)
        make_type_anew(world, db)
        for _ in range(3):
            assert send(db, typed, mode) == [("good",)]

    world.look.execute("DROP TYPE IF EXISTS mood CASCADE")
    world.look.execute("CREATE TYPE mood AS ENUM ('good', 'bad')")
    with a_table(world):
        world.look.execute("ALTER TABLE plan ADD COLUMN mood mood DEFAULT 'good'")
        world.play(story)
    world.look.execute("DROP TYPE mood CASCADE")


@postgres
@make_stale
def test_a_later_statement_whose_plan_is_stale_is_retryable(
    world: World, make_stale: Callable[..., None]
) -> None:
    """What was done before it is rolled back with it, and all of it may be done again."""

    def story(db: Both) -> None:
        for _ in range(PREPARED):
            send(db, READ, {})
        with pytest.raises(DBAPIError) as raised, db.scope():
            insert(db, "a")
            make_stale(world, db)
            db.execute(READ)
        assert db.is_retryable(raised.value)
        assert not isinstance(raised.value, DatabaseUnavailable)
        for _ in range(3):
            send(db, READ, {})

    with a_table(world):
        world.play(story)
    assert world.items() == []


@postgres
def test_other_things_that_are_not_supported_are_not_retryable(world: World) -> None:
    """0A000 is the code of many, and only that of a plan is meant."""

    def story(db: Both) -> None:
        with pytest.raises(DBAPIError) as raised, db.scope():
            db.execute(text("SELECT 1 FROM item GROUP BY 1 FOR UPDATE"))
        assert not db.is_retryable(raised.value)

    world.play(story)


# -- a server that cannot serve now ----------------------------------------------------------------


def raising(state: str) -> str:
    """Return SQL that fails with this SQLSTATE, or with this error of MySQL's."""
    if len(state) == 5:
        return f"DO $$ BEGIN RAISE EXCEPTION 'told' USING ERRCODE = '{state}'; END $$"
    told = "running with the --read-only option so it cannot execute this statement"
    return f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {state}, MESSAGE_TEXT = '{told}'"


BACKEND = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}


def backend(world: World, db: Both) -> int:
    """Return who serves us."""
    with db.scope():
        return int(db.scalar(text(BACKEND[DRIVERS[world.driver].partition("+")[0]])))


def discarded(world: World, failing: Callable[[Both], None]) -> None:
    """Fail if what fails there does so once more, or is told otherwise than it should be."""
    with_options(world, pool_size=1, max_overflow=0)

    def story(db: Both) -> None:
        before = backend(world, db)
        with pytest.raises(DatabaseUnavailable, match="scope opened at") as raised, db.scope():
            failing(db)
        assert db.is_retryable(raised.value)
        with db.scope():
            insert(db, "a")
        assert backend(world, db) != before

    world.play(story)
    assert world.items() == ["a"]


@postgres
@pytest.mark.parametrize("state", ["57P01", "57P02", "57P03", "57P04", "57P05", "25P02"])
def test_what_a_server_of_postgresql_cannot_serve(world: World, state: str) -> None:
    """It is shutting down or starting; or it is in a transaction that failed before ours."""
    discarded(world, lambda db: db.execute(text(raising(state))))


@mysql
@pytest.mark.parametrize("state", ["1047", "1290", "1836", "3032"])
def test_what_a_server_of_mysql_cannot_serve(world: World, state: str) -> None:
    """A node without its cluster, a server that was made read-only, or is offline."""
    discarded(world, lambda db: db.execute(text(raising(state))))


LEAKING = {
    "postgresql": "SET default_transaction_read_only = on",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
}


def leak(world: World, db: Both) -> None:
    """Let the session of the connection be one that cannot write."""
    with db.scope():
        db.execute(text(LEAKING[DRIVERS[world.driver].partition("+")[0]]))


@servers
def test_a_connection_that_became_read_only_is_discarded(world: World) -> None:
    """Else every request that gets it would fail, for ever."""
    with_options(world, pool_size=1, max_overflow=0)

    def story(db: Both) -> None:
        leak(world, db)
        with pytest.raises(DatabaseUnavailable) as raised, db.scope():
            insert(db, "a")
        assert db.is_retryable(raised.value)
        for number in range(3):
            with db.scope():
                insert(db, f"b{number}")

    world.play(story)
    assert world.items() == ["b0", "b1", "b2"]


@servers
def test_what_cannot_be_served_is_503(world: World) -> None:
    """With Retry-After; the next request is served."""
    with_options(world, pool_size=1, max_overflow=0)
    app = FastAPI()
    db = Both(world.database)

    if world.is_async:

        @app.post("/")
        async def write() -> None:
            await db.awaitable(lambda: insert(db, "a"))()
    else:

        @app.post("/")
        def write() -> None:
            insert(db, "a")

    world.database.install(app)

    def story(db: Both) -> None:
        leak(world, db) if world.is_async else None
        seen = await_only(ask(app, "POST", "/"))
        assert (seen.status, "retry-after" in seen.headers) == (503, True)
        assert await_only(ask(app, "POST", "/")).status == 200

    world.place = "request"
    if not world.is_async:
        leak(world, db)
    world.play(story)
    assert world.items() == ["a"]


@postgres
@pytest.mark.parametrize(
    "how", ["SET TRANSACTION READ ONLY", "SET LOCAL transaction_read_only = on"]
)
def test_a_transaction_that_was_made_read_only_is_the_applications(world: World, how: str) -> None:
    """It is not the server's fault, and would be the same at the next try."""

    def story(db: Both) -> None:
        before = backend(world, db)
        with pytest.raises(DBAPIError) as raised, db.scope():
            db.execute(text(how))
            insert(db, "a")
        assert not db.is_retryable(raised.value)
        assert backend(world, db) == before

    world.play(story)


@servers
def test_a_read_only_scope_refuses_as_before(world: World) -> None:
    """There it is a mistake of the application, and the connection is as good as it was."""

    def story(db: Both) -> None:
        def sneak(session: Any) -> None:
            session.connection().exec_driver_sql("INSERT INTO item (name) VALUES ('a')")

        with pytest.raises(ReadOnlyViolation), db.scope(readonly=True):
            db.session.run_sync(sneak) if db.is_async else sneak(db.session)
        assert db.stats()["connections_discarded"] == 0

    world.play(story)
