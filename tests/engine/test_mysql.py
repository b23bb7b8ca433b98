"""What MySQL and MariaDB do by themselves: end transactions, and not end queries."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pymysql
import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.util import await_only

from dbscope import DatabaseUnavailable, ImplicitCommit, TransactionBroken, UnexpectedRollback
from dbscope.backends import errors, sockets
from dbscope.backends.driver import ConnectionStatus
from dbscope.backends.mysql import kill
from dbscope.backends.mysql.drivers import DRIVERS
from tests.support.look import Onlooker, pause
from tests.worlds import MYSQL, Both, Item, World, insert, plain_engine

pytestmark = pytest.mark.worlds(drivers=lambda each: each in MYSQL, places=["scope"])

CREATE = text("CREATE TABLE made (id int)")


@pytest.fixture
def world(world: World) -> Iterator[World]:
    """The same, without the table that these tests make."""
    world.look.execute("DROP TABLE IF EXISTS made")
    yield world
    world.look.execute("DROP TABLE IF EXISTS made")


def notes(db: Both) -> list[str]:
    """Return what the hooks of this block are going to write to."""
    log: list[str] = []
    db.on_commit(lambda: log.append("commit"))
    db.on_rollback(lambda: log.append("rollback"))
    return log


def rename(db: Both, number: int) -> None:
    """Change a row by a statement."""
    db.execute(update(Item).where(Item.id == number).values(name=f"changed {number}"))


def rename_by_flush(db: Both, number: int) -> None:
    """Change a row by a flush."""
    item = db.session.get(Item, number)
    item.name = f"changed {number}"
    db.session.flush()


# -- a deadlock ------------------------------------------------------------------------------------


LOCK_WAITS = """
    SELECT 1 FROM information_schema.innodb_trx
    WHERE trx_state = 'LOCK WAIT' AND trx_mysql_thread_id = ?
"""


@contextmanager
def rival(world: World) -> Iterator[Callable[[], None]]:
    """A heavier transaction that has row 2; what is given lets it wait for row 1."""
    world.look.execute("INSERT INTO item (id, name) VALUES (1, 'a'), (2, 'b')")
    with Onlooker(world.url, patience=40) as other:
        other.execute("BEGIN")
        for number in range(10, 20):
            other.execute("INSERT INTO item (id, name) VALUES (?, ?)", number, f"other {number}")
        other.execute("SELECT * FROM item WHERE id = 2 FOR UPDATE")
        mine = other.scalar("SELECT connection_id()")
        waiting = threading.Thread(
            target=other.execute, args=["SELECT * FROM item WHERE id = 1 FOR UPDATE"]
        )

        def wait_for_row_1() -> None:
            waiting.start()
            while not world.look.rows(LOCK_WAITS, mine):
                time.sleep(pause())

        yield wait_for_row_1
        if waiting.ident is not None:
            waiting.join()


@pytest.mark.parametrize("way", [rename, rename_by_flush])
def test_a_deadlock_in_a_nested_block_takes_the_whole_transaction(
    world: World, way: Callable[[Both, int], None]
) -> None:
    """A19: there is no savepoint any more, so none is asked for, and the outer block is broken.

    Django: AtomicMySQLTests.test_implicit_savepoint_rollback.
    """
    logs: list[list[str]] = []

    def body(db: Both) -> None:
        logs.append(notes(db))
        rename(db, 1)
        with pytest.raises(OperationalError, match="1213"), db.atomic(), db.atomic():
            insert(db, "inner")
            meet()
            way(db, 2)
        with pytest.raises(TransactionBroken):
            db.execute(select(Item))

    with rival(world) as meet, pytest.raises(UnexpectedRollback) as caught:
        world.run(body)
    assert "1213" in str(caught.value.__cause__)
    assert logs == [["rollback"]]
    assert world.items() == ["a", "b"]
    assert "TO" not in " ".join(world.sent())
    assert world.database.stats()["connections_discarded"] == 0


def test_a_deadlock_in_a_savepoint_by_hand_is_told_as_it_is(world: World) -> None:
    """A19: SQLAlchemy's own block does not ask for the savepoint either."""

    def body(db: Both) -> None:
        rename(db, 1)
        with pytest.raises(OperationalError, match="1213"), db.session.begin_nested():
            insert(db, "inner")
            meet()
            rename(db, 2)

    with rival(world) as meet, pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == ["a", "b"]


@pytest.mark.parametrize("times", [1, 3])
def test_a_statement_that_is_too_large_is_the_fault_of_who_sends_it(
    world: World, times: int
) -> None:
    """The server closes the connection, in the middle of it if it is long; it is no outage."""
    limit = world.look.scalar("SELECT @@max_allowed_packet")

    def body(db: Both) -> None:
        insert(db, "a")
        db.execute(text("SELECT LENGTH(:text)"), {"text": "x" * (times * limit + 1000)})

    def story(db: Both) -> None:
        with pytest.raises(DBAPIError) as raised:
            world.inside(db, body)
        assert not isinstance(raised.value, DatabaseUnavailable)
        assert not db.is_retryable(raised.value)
        assert "max_allowed_packet" in str(raised.value.__notes__)
        with db.scope():
            insert(db, "b")

    world.play(story)
    assert world.items() == ["b"]


def test_a_snapshot_that_is_out_of_date_takes_the_whole_transaction(world: World) -> None:
    """1020 of MariaDB's `innodb_snapshot_isolation`: rolled back, and it may be done again."""
    times: list[int] = []

    def work(db: Both) -> None:
        times.append(1)
        db.execute(text("SET SESSION innodb_snapshot_isolation = ON"))
        insert(db, f"time {len(times)}")
        db.execute(text("SELECT * FROM item")).all()
        if len(times) == 1:
            world.look.execute("UPDATE item SET name = 'changed' WHERE name = 'a'")
        rename(db, world.look.scalar("SELECT min(id) FROM item"))

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
        db.run(lambda: work(db))

    known = "SELECT count(*) FROM information_schema.system_variables WHERE variable_name = ?"
    if not world.look.scalar(known, "innodb_snapshot_isolation"):
        pytest.skip("this server knows no innodb_snapshot_isolation")
    world.play(story)
    assert len(times) == 2
    assert "time 1" not in world.items()
    assert "time 2" in world.items()


def test_a_lock_that_is_not_got_in_time_undoes_one_statement(world: World) -> None:
    """1205 is not 1213: the transaction is there, and goes on after the nested block."""

    def body(db: Both) -> None:
        db.execute(text("SET innodb_lock_wait_timeout = 1"))
        insert(db, "c")
        with pytest.raises(OperationalError, match="1205"), db.atomic():
            rename(db, 2)
        insert(db, "d")

    with rival(world):
        world.run(body)
    assert world.items() == ["a", "b", "c", "d"]


# -- what commits by itself ------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True])
def test_a_statement_that_commits_is_refused_as_what_it_was(world: World, nested: bool) -> None:
    """What was done before it is stored: neither kind of hook runs, and nothing comes after it."""
    logs: list[list[str]] = []

    def body(db: Both) -> None:
        insert(db, "before")
        logs.append(notes(db))
        with db.atomic(savepoint=nested):
            insert(db, "inner")
            db.execute(CREATE)

    with pytest.raises(ImplicitCommit, match="CREATE in"):
        world.run(body)
    assert logs == [[]]
    assert world.items() == ["before", "inner"]
    assert "TO" not in " ".join(world.sent())
    assert world.sent()[-1] != "COMMIT"


def test_it_cannot_be_swallowed(world: World) -> None:
    """The end says it again, and does not call it a rollback."""

    def body(db: Both) -> None:
        insert(db, "before")
        with suppress(ImplicitCommit):
            db.execute(CREATE)
        with pytest.raises(TransactionBroken):
            insert(db, "after")
        db.session.expunge_all()

    with pytest.raises(ImplicitCommit):
        world.run(body)
    assert world.items() == ["before"]


def test_even_if_it_fails_it_has_committed(world: World) -> None:
    """The error is its own, with a note; the error packet does not tell, so the server is asked."""
    world.look.execute("CREATE TABLE made (id int)")
    logs: list[list[str]] = []

    def body(db: Both) -> None:
        insert(db, "before")
        logs.append(notes(db))
        with pytest.raises(OperationalError, match="1050") as caught:
            db.execute(CREATE)
        assert "what was done before is stored" in " ".join(caught.value.__notes__)

    with pytest.raises(ImplicitCommit) as caught:
        world.run(body)
    assert "1050" in str(caught.value.__cause__.__cause__)
    assert (logs, world.items()) == ([[]], ["before"])


def test_by_the_drivers_own_hand_it_is_found_out_too(world: World) -> None:
    """`metadata.create_all` on the connection of the session."""

    def body(db: Both) -> None:
        insert(db, "before")
        connection = db.session.connection()
        (await_only(connection.execute(CREATE)) if world.is_async else connection.execute(CREATE))

    with pytest.raises(ImplicitCommit):
        world.run(body)


def test_first_in_a_transaction_it_hurts_nobody(world: World) -> None:
    """There is nothing to commit yet."""

    def body(db: Both) -> None:
        db.execute(CREATE)
        insert(db, "after")

    world.run(body)
    assert world.items() == ["after"]


# -- the pool --------------------------------------------------------------------------------------


def test_an_idle_connection_that_was_killed_is_not_given_out(world: World) -> None:
    """R10: the next scope gets a new one, and nobody hears of it."""
    numbers: list[int] = []

    def story(db: Both) -> None:
        made: list[Any] = []
        event.listen(plain_engine(world.database), "connect", lambda each, _: made.append(each))
        world.inside(db, lambda db: (insert(db, "a"), numbers.append(db.scalar(NUMBER))))
        world.look.execute(f"KILL {numbers[0]}")
        while not can_know_its_end(made[0]):
            await_only(asyncio.sleep(0.01)) if world.is_async else time.sleep(0.01)
        world.inside(db, lambda db: insert(db, "b"))

    world.play(story)
    assert world.items() == ["a", "b"]
    assert world.database.stats()["connections_discarded"] == 1


NUMBER = text("SELECT connection_id()")


def can_know_its_end(connection: Any) -> bool:
    """Tell whether a driver has heard that its connection was ended; PyMySQL would have to read."""
    if isinstance(connection, pymysql.Connection):
        return sockets.has_unread_bytes(connection, {})
    return DRIVERS["asyncmy"].status(connection) is ConnectionStatus.CLOSED


def test_a_raw_connection_leaves_no_snapshot_behind(world: World) -> None:
    """Else the next one would read what was there long ago (REPEATABLE READ)."""

    def story(db: Both) -> None:
        engine = plain_engine(world.database)
        raw = engine.raw_connection()
        cursor = raw.cursor()
        cursor.execute("SELECT * FROM item")
        cursor.close()
        raw.close()
        world.look.execute("INSERT INTO item (name) VALUES ('new')")
        seen: list[Any] = []
        world.inside(db, lambda db: seen.extend(db.scalars(select(Item.name))))
        assert seen == ["new"]

    world.play(story)


@pytest.mark.worlds(drivers=lambda each: each == "pymysql", places=["scope"])
@pytest.mark.parametrize(
    ("code", "away"),
    [(1040, True), (2003, True), (1053, True), (1045, False), (1049, False), (2026, False)],
)
def test_errors_of_connecting_are_told_apart_by_their_number(code: int, away: bool) -> None:
    """Too many, nobody there, shutting down; not a wrong password, name or encryption."""
    error = pymysql.OperationalError(code, "words")
    assert errors.is_away(error, None) is away
    assert errors.is_permanent(error, None) is not away
    assert errors.is_away(ConnectionRefusedError(111, "refused"), None)


@pytest.mark.parametrize(("code", "complaints"), [(1094, 0), (2013, 1)])
def test_a_query_that_ends_before_it_is_killed_is_no_complaint(
    code: int, complaints: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Between the look and the KILL it may come to its end: 1094 is "Unknown thread id"."""
    kill._report(pymysql.err.OperationalError(code, "told by the server"))
    assert len([each for each in caplog.records if each.name == "dbscope"]) == complaints


def test_a_connection_that_was_closed_on_the_driver_is_closed_in_silence(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """PyMySQL takes it for an error if it is closed again, and the pool would log that."""

    def story(db: Both) -> None:
        with suppress(DatabaseUnavailable), db.scope():
            insert(db, "a")
            connection = db.session.connection()
            plain = getattr(connection, "sync_connection", connection)
            closed = plain.connection.driver_connection.close()
            await_only(closed) if world.is_async and closed is not None else None
            db.session.close()

    world.play(story)
    assert [each.message for each in caplog.records if each.name != "dbscope"] == []
