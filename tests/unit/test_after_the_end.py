"""After an end that failed, or was called by hand, the session of the scope can be used again."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from dbscope import (
    DatabaseUnavailable,
    DBScopeError,
    TransactionBroken,
    TransactionOutcomeUnknown,
    UnexpectedRollback,
)
from dbscope.engine import transaction
from dbscope.watch.events import Event, RollbackFailed
from tests.support.proxy import Proxy
from tests.unit.blocks import Trouble
from tests.unit.test_ended_outside import driver
from tests.worlds import (
    MYSQL,
    Both,
    Item,
    World,
    insert,
    is_postgresql,
    is_sqlite,
    plain_engine,
    waiting,
)

HERE = pytest.mark.worlds(places=["scope", "request"])
SCOPE = pytest.mark.worlds(places=["scope"])
SERVERS = pytest.mark.worlds(drivers=lambda driver: not is_sqlite(driver), places=["scope"])


def names(db: Both) -> list[str]:
    """Return what is stored, as the session sees it."""
    return list(db.scalars(select(Item.name).order_by(Item.id)))


# -- the whole -------------------------------------------------------------------------------------


@SERVERS
@pytest.mark.parametrize("cut", ["cut_before_commit", "cut_after_commit"])
@pytest.mark.parametrize("how", ["by hand", "block"])
def test_after_an_unknown_outcome_one_can_look(
    world: World, proxy: Proxy, how: str, cut: str
) -> None:
    """That is what the error tells people to do; the next transaction is a new one."""
    world.database = type(world.database)(proxy.through(world.url))
    stored = ["a"] if cut == "cut_after_commit" else []

    def work(db: Both) -> None:
        insert(db, "a")
        getattr(proxy, cut)()
        if how == "by hand":
            db.session.commit()

    def story(db: Both) -> None:
        with db.scope(atomic=how == "by hand"):
            with pytest.raises(TransactionOutcomeUnknown):
                if how == "by hand":
                    work(db)
                else:
                    with db.atomic():
                        work(db)
            assert names(db) == stored
            insert(db, "after")

    world.play(story)
    assert world.items() == [*stored, "after"]


@HERE
def test_a_connection_that_was_invalidated_breaks_its_transaction(world: World) -> None:
    """By an error of ours; the work is lost, and the end says so. The next scope is as new."""

    def body(db: Both) -> None:
        insert(db, "a")
        connection = db.session.connection()
        waiting(connection.invalidate)()
        for _ in range(2):
            with pytest.raises(TransactionBroken):
                names(db)

    with pytest.raises(DBScopeError):
        world.run(body)
    assert world.items() == []


@HERE
@pytest.mark.parametrize("way", ["close", "invalidate", "reset"])
def test_a_session_that_is_closed_by_hand_begins_anew(world: World, way: str) -> None:
    """As SQLAlchemy's does: what was done is rolled back, and its hooks are those of a rollback."""
    log: list[str] = []

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(lambda: log.append("committed"))
        db.on_rollback(lambda: log.append("rolled back"))
        getattr(db.session, way)()
        assert log == ["rolled back"]
        assert names(db) == []
        insert(db, "b")

    world.run(body)
    assert (log, world.items()) == (["rolled back"], ["b"])


@SCOPE
@pytest.mark.parametrize("way", ["close", "invalidate"])
def test_a_session_is_over_when_its_scope_is(world: World, way: str) -> None:
    """Whatever was called before: it cannot be used any more, and says so by an error of ours."""

    def story(db: Both) -> None:
        with db.scope():
            session = db.session
            insert(db, "a")
            getattr(session, way)()
        with pytest.raises(DBScopeError):
            session.execute(text("SELECT 1"))

    world.play(story)


# -- a savepoint -----------------------------------------------------------------------------------


def refuse_release(world: World) -> Callable[..., Any]:
    """Let the next RELEASE be one that the server refuses, by an error of its own."""
    dialect = plain_engine(world.database).dialect
    release = dialect.do_release_savepoint

    def once(connection: Any, name: str) -> None:
        dialect.do_release_savepoint = release
        release(connection, "of_nobody")

    dialect.do_release_savepoint = once
    return release


def test_a_release_that_fails_loses_the_savepoint_and_no_more(world: World) -> None:
    """It is rolled back to, and what is around it goes on."""
    log: list[str] = []

    def body(db: Both) -> None:
        insert(db, "around")
        with pytest.raises(DBAPIError), db.atomic():
            insert(db, "inside")
            db.on_commit(lambda: log.append("committed"))
            db.on_rollback(lambda: log.append("rolled back"))
            refuse_release(world)
        assert names(db) == ["around"]
        with db.atomic():
            insert(db, "next")

    world.run(body)
    assert (log, world.items()) == (["rolled back"], ["around", "next"])


@pytest.mark.worlds(drivers=is_postgresql)
def test_an_error_that_went_past_sqlalchemy_costs_its_savepoint_only(world: World) -> None:
    """RELEASE is refused then, ROLLBACK TO is not."""

    def body(db: Both) -> None:
        insert(db, "around")
        with pytest.raises((DBAPIError, UnexpectedRollback)), db.atomic():
            insert(db, "inside")
            with suppress(Exception):
                waiting(driver(db).execute)("SELECT 1 / 0")
        insert(db, "next")

    world.run(body)
    assert world.items() == ["around", "next"]


def test_a_savepoint_that_cannot_be_rolled_back_breaks_what_is_around(world: World) -> None:
    """Nobody knows what is left of it, so nothing of it is stored; the error says what to do."""

    def body(db: Both) -> None:
        insert(db, "around")
        with pytest.raises(Trouble), db.atomic():
            insert(db, "inside")
            refuse_rollback_to(world)
            raise Trouble
        with pytest.raises(TransactionBroken):
            names(db)
        db.session.expunge_all()

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == []


def refuse_rollback_to(world: World) -> None:
    """Let the next ROLLBACK TO be one that the server refuses."""
    dialect = plain_engine(world.database).dialect
    roll_back = dialect.do_rollback_to_savepoint

    def once(connection: Any, name: str) -> None:
        dialect.do_rollback_to_savepoint = roll_back
        roll_back(connection, "of_nobody")

    dialect.do_rollback_to_savepoint = once


# -- the error that comes first --------------------------------------------------------------------


@SCOPE
@pytest.mark.parametrize("how", ["at the end", "by hand"])
def test_the_error_of_commit_is_not_hidden_by_that_of_the_rollback(
    world: World, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A Galera node that has lost its cluster refuses both; what counts is what came first.

    The other one is told to who listens, as that of any rollback: the log is one of them.
    """
    log: list[str] = []
    told: list[Event] = []
    world.database.events.listen(told.append)
    dialect = plain_engine(world.database).dialect
    first, second = refusal(world, 1213), refusal(world, 1047)

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_rollback(lambda: log.append("rolled back"))
        commits, rolls_back = dialect.do_commit, dialect.do_rollback

        def refuse_commit(connection: Any) -> None:
            dialect.do_commit = commits
            raise first

        def refuse_rollback(connection: Any) -> None:
            dialect.do_rollback = rolls_back
            raise second

        dialect.do_commit = partial(transaction.send_commit, refuse_commit)
        dialect.do_rollback = refuse_rollback
        if how == "by hand":
            db.session.commit()

    with pytest.raises(OperationalError) as raised:
        world.run(body)
    assert raised.value.orig is first
    assert any("The rollback after this error failed" in note for note in raised.value.__notes__)
    assert [each.error for each in told if isinstance(each, RollbackFailed)] == [second]
    assert caplog.text.count("The rollback failed in the ") == 1
    assert (log, world.items()) == (["rolled back"], [])


def refusal(world: World, number: int) -> Exception:
    """Return an error of the driver, with one of MariaDB's numbers where it has numbers."""
    dbapi = plain_engine(world.database).dialect.loaded_dbapi
    error: Exception = dbapi.OperationalError(number, "no")
    return error


@pytest.mark.worlds(drivers=lambda driver: driver in MYSQL, places=["scope"])
@pytest.mark.parametrize("how", ["at the end", "by hand"])
@pytest.mark.parametrize(
    ("number", "told"),
    [
        (1180, TransactionOutcomeUnknown),
        (1317, TransactionOutcomeUnknown),
        (1213, OperationalError),
        (1290, OperationalError),  # an option, and not said to be the one of read-only
        (1836, DatabaseUnavailable),
        (1047, DatabaseUnavailable),
    ],
)
def test_an_error_of_commit_that_leaves_the_outcome_open_is_unknown(
    world: World, how: str, number: int, told: type[Exception]
) -> None:
    """Galera answers 1180 when the others may have stored it, and the row can be there.

    Where the server cannot serve now, nothing is stored, and its connection goes to nobody else.
    """
    log: list[str] = []
    is_open = told is TransactionOutcomeUnknown
    dialect = plain_engine(world.database).dialect

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(lambda: log.append("committed"))
        db.on_rollback(lambda: log.append("rolled back"))
        commits = dialect.do_commit

        def answer(connection: Any) -> None:
            dialect.do_commit = commits
            if is_open:
                commits(connection)
            raise refusal(world, number)

        dialect.do_commit = answer
        if how == "by hand":
            db.session.commit()

    with pytest.raises(told):
        world.run(body)
    assert log == ([] if is_open else ["rolled back"])
    assert world.items() == (["a"] if is_open else [])
