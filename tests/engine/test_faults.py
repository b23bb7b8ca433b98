"""Which errors are conflicts, by code and cause: real ones from every driver. Cases G10."""

import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm.exc import StaleDataError

from dbscope import (
    DatabaseUnavailable,
    PartialCommit,
    PoolTimeout,
    TransactionBroken,
    TransactionOutcomeUnknown,
    UnexpectedRollback,
)
from dbscope.backends import conflicts
from tests.conflicts import HeldLock, be_stale, counters, overtake, with_options
from tests.worlds import Both, Item, World, insert, is_postgresql, is_sqlite

postgres = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
WAITING = """
    SELECT 1 FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
    AND query = 'UPDATE counter SET value = 2 WHERE id = 1'
"""
sqlite = pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
once = pytest.mark.worlds(places=["scope"])


def failure(world: World, body: Callable[[Both], Any]) -> BaseException:
    """Return what leaves a scope in which the body runs."""

    def story(db: Both) -> BaseException:
        with pytest.raises(Exception) as raised, db.scope():
            body(db)
        return raised.value

    error: BaseException = world.play(story)
    return error


def is_retryable(world: World, error: BaseException) -> bool:
    """Ask the database object, as applications do."""
    return world.database.is_retryable(error)


# -- real ones -------------------------------------------------------------------------------------


@postgres
def test_a_serialization_failure_of_a_statement_is_retryable(world: World) -> None:
    """G10: 40001, whatever class the driver has for it."""
    with_options(world, isolation_level="REPEATABLE READ")
    counters(world, 1)
    error = failure(world, lambda db: overtake(world, db))
    assert isinstance(error, DBAPIError)
    assert conflicts.conflict_of(error) == "40001"
    assert is_retryable(world, error)


@postgres
def test_a_serialization_failure_at_commit_is_retryable(world: World) -> None:
    """G10: write skew, of which only COMMIT learns."""
    with_options(world, isolation_level="SERIALIZABLE")
    counters(world, 2)
    returned: list[bool] = []

    def body(db: Both) -> None:
        db.execute(text("SELECT sum(value) FROM counter"))
        db.execute(text("UPDATE counter SET value = 7 WHERE id = 1"))
        with psycopg.connect(libpq(world)) as other:
            other.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            other.execute("SELECT sum(value) FROM counter")
            other.execute("UPDATE counter SET value = 8 WHERE id = 2")
            other.commit()
        returned.append(True)

    error = failure(world, body)
    assert returned, "the statements themselves went well"
    assert conflicts.conflict_of(error) == "40001"


@postgres
def test_a_deadlock_is_retryable(world: World) -> None:
    """G10: 40P01, of a real deadlock in which ours is the victim."""
    counters(world, 2)
    threads: list[threading.Thread] = []

    def body(db: Both) -> None:
        db.execute(text("SET LOCAL deadlock_timeout = '200ms'"))  # who looks first is the victim
        db.execute(text("UPDATE counter SET value = 1 WHERE id = 1"))
        has_second = threading.Event()
        threads.append(threading.Thread(target=cross, args=(libpq(world), has_second)))
        threads[0].start()
        assert has_second.wait(40)
        while not world.look.rows(WAITING):
            db.execute(text("SELECT pg_sleep(0.01)"))
        db.execute(text("UPDATE counter SET value = 1 WHERE id = 2"))

    error = failure(world, body)
    threads[0].join()
    assert conflicts.conflict_of(error) == "40P01"


def cross(url: str, has_second: threading.Event) -> None:
    """Lock the second row and wait for the first."""
    with psycopg.connect(url) as other:
        other.execute("SET deadlock_timeout = '60s'")
        other.execute("UPDATE counter SET value = 2 WHERE id = 2")
        has_second.set()
        other.execute("UPDATE counter SET value = 2 WHERE id = 1")


def libpq(world: World) -> str:
    """Return the URL for psycopg itself."""
    return make_url(world.url).set(drivername="postgresql").render_as_string(hide_password=False)


@sqlite
def test_a_busy_database_is_retryable(world: World) -> None:
    """SQLITE_BUSY: another process writes for longer than the busy timeout."""
    with_options(world, connect_args={"timeout": 0.01})
    with HeldLock(world):
        error = failure(world, lambda db: insert(db, "a"))
    assert isinstance(error, DatabaseUnavailable)
    assert conflicts.is_retryable(error)


@sqlite
def test_a_snapshot_that_is_too_old_is_retryable(world: World) -> None:
    """SQLITE_BUSY_SNAPSHOT: one of the extended codes, of a transaction that has read first."""
    with pytest.raises(sqlite3.OperationalError) as raised:
        read_then_write(world.url)
    error = OperationalError("UPDATE", None, raised.value)
    assert conflicts.conflict_of(error) == "SQLITE_BUSY_SNAPSHOT"


def read_then_write(url: str) -> None:
    """Begin by reading, let another write, and then write."""
    path = make_url(url).database or ""
    one, other = (sqlite3.connect(path, isolation_level=None) for _ in range(2))
    try:
        one.execute("PRAGMA journal_mode=WAL").close()
        one.execute("BEGIN").execute("SELECT * FROM item").fetchall()
        other.execute("INSERT INTO item (name) VALUES ('b')")
        one.execute("INSERT INTO item (name) VALUES ('a')")
    finally:
        one.close()
        other.close()


def test_a_locked_table_is_not_retryable() -> None:
    """SQLITE_LOCKED: the conflict is inside one connection, and would be there again."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE item AS VALUES (1), (2), (3)")
    cursor = connection.execute("SELECT * FROM item")
    cursor.fetchone()  # and it is in the middle of it
    with pytest.raises(sqlite3.OperationalError) as raised:
        connection.execute("DROP TABLE item")
    connection.close()
    assert raised.value.sqlite_errorname == "SQLITE_LOCKED"
    assert not conflicts.is_retryable(OperationalError("DROP", None, raised.value))


@once
def test_a_stale_version_is_retryable(world: World) -> None:
    """SQLAlchemy's StaleDataError: the row has another version than the one that was read."""
    counters(world, 1)
    error = failure(world, be_stale)
    assert isinstance(error, StaleDataError)
    assert is_retryable(world, error)


@once
def test_other_errors_are_not_retryable(world: World) -> None:
    """A duplicate is one the next time, too."""

    def body(db: Both) -> None:
        insert(db, "a")
        insert(db, "a")

    error = failure(world, body)
    assert isinstance(error, IntegrityError)
    assert not is_retryable(world, error)


# -- causes ----------------------------------------------------------------------------------------


@once
def test_a_swallowed_conflict_is_retryable(world: World) -> None:
    """UnexpectedRollback and TransactionBroken say what was swallowed: by their cause."""
    counters(world, 1)

    def swallowing(db: Both) -> None:
        try:
            be_stale(db)
        except StaleDataError:
            return

    def going_on(db: Both) -> None:
        swallowing(db)
        db.execute(select(Item))

    for body, kind in ((swallowing, UnexpectedRollback), (going_on, TransactionBroken)):
        error = failure(world, body)
        assert isinstance(error, kind)
        assert is_retryable(world, error)


def caused(error: BaseException, cause: BaseException) -> BaseException:
    """Return the error with that cause."""
    error.__cause__ = cause
    return error


STALE = StaleDataError("stale")


@pytest.mark.parametrize(
    "error",
    [
        TransactionOutcomeUnknown(),
        caused(TransactionOutcomeUnknown(), STALE),
        caused(UnexpectedRollback(), TransactionOutcomeUnknown()),
        caused(UnexpectedRollback(), caused(TransactionOutcomeUnknown(), STALE)),
        caused(PartialCommit(), STALE),
        caused(DatabaseUnavailable(), STALE),
        caused(PoolTimeout(), TimeoutError()),
        caused(ValueError(), STALE),
        KeyboardInterrupt(),
        None,
    ],
    ids=repr,
)
def test_what_may_be_stored_is_never_retryable(error: BaseException) -> None:
    """An unknown or partial outcome; nor what the application made of a conflict."""
    assert not conflicts.is_retryable(error)


def test_unavailable_and_nothing_stored_is_retryable() -> None:
    """Where it is certain that nothing was stored, it says so."""
    error = DatabaseUnavailable()
    assert not conflicts.is_retryable(error)
    error.nothing_was_stored = True
    assert conflicts.is_retryable(error)
    assert conflicts.is_retryable(caused(UnexpectedRollback(), error))


def test_a_deadlock_of_mariadb_is_retryable() -> None:
    """1213 and 1020, in the first argument as its drivers have it; a lock wait, 1205, is not."""
    for code, wanted in ((1213, True), (1020, True), (1205, False), (1062, False), ("1213", False)):
        driver_error = Exception(code, "Deadlock found")
        assert conflicts.is_retryable(OperationalError("", None, driver_error)) is wanted
