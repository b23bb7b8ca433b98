"""Once it is stored it is a success, and what was ended elsewhere is told before ROLLBACK, too."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dbscope import (
    DBScopeError,
    ManualCommitForbidden,
    TransactionBroken,
    TransactionEndedOutside,
)
from tests.unit.blocks import Trouble
from tests.worlds import MYSQL, Both, Child, World, insert, is_sqlite, plain_engine, waiting

BARE = pytest.mark.worlds(places=["scope", "request"])
SCOPE = pytest.mark.worlds(places=["scope"])


class Conflict(Exception):
    """Such as another transaction causes, and what a listener may raise as well."""

    sqlstate = "40001"


def plain(db: Both) -> Session:
    session: Any = db.session
    return session.real.sync_session if db.is_async else session


# -- after COMMIT ----------------------------------------------------------------------------------


@SCOPE
@pytest.mark.parametrize("before", ["by hand", "twice by hand", "by hand, empty"])
@pytest.mark.parametrize("then", ["by hand", "the scope's end"])
def test_a_commit_that_succeeded_says_nothing_about_the_next(
    world: World, before: str, then: str
) -> None:
    """The next one fails with its own error, runs the hooks of ROLLBACK, and stores nothing."""
    log: list[str] = []

    def story(db: Both) -> None:
        with pytest.raises(IntegrityError), db.scope():
            for number in range(1 + (before == "twice by hand")):
                if "empty" not in before:
                    insert(db, f"a{number}")
                db.session.commit()
            db.on_commit(lambda: log.append("committed"))
            db.on_rollback(lambda: log.append("rolled back"))
            insert(db, "b")
            db.session.add(Child(item_id=999))
            if then == "by hand":
                db.session.commit()

    world.play(story)
    assert log == ["rolled back"]
    assert "b" not in world.items()


@SCOPE
@pytest.mark.parametrize("name", ["after_commit", "after_transaction_end"])
@pytest.mark.parametrize("how", ["scope", "block", "by hand", "run"])
def test_a_listener_that_fails_after_commit_is_a_hook_that_fails(
    world: World, name: str, how: str
) -> None:
    """Stored once, hooks of COMMIT run, none of ROLLBACK; its error is raised behind that."""
    log: list[str] = []

    def work(db: Both) -> None:
        insert(db, "a")
        db.on_commit(lambda: log.append("committed"))
        db.on_rollback(lambda: log.append("rolled back"))
        failing(plain(db), name)

    def story(db: Both) -> None:
        with pytest.raises(Conflict):
            if how == "run":
                db.run(lambda: work(db))
            elif how == "block":
                with db.scope(atomic=False), db.atomic():
                    work(db)
            else:
                with db.scope():
                    work(db)
                    if how == "by hand":
                        db.session.commit()

    world.play(story)
    assert world.items() == ["a"]
    assert log == ["committed"]


def failing(session: Session, name: str) -> None:
    """Let a listener of a session fail, once."""
    failed: list[Any] = []

    def listener(*args: Any) -> None:
        ends_all = name == "after_commit" or args[1].parent is None
        if ends_all and not failed:
            failed.append(args)
            raise Conflict

    event.listen(session, name, listener)


@pytest.mark.worlds(places=["request"])
def test_a_request_whose_listener_fails_after_commit_is_answered(world: World) -> None:
    """A 500 would make its client do again what is done (decision 13)."""

    def body(db: Both) -> None:
        insert(db, "a")
        failing(plain(db), "after_commit")

    world.run(body)
    assert world.items() == ["a"]


@SCOPE
@pytest.mark.parametrize("of", ["engine", "session"])
@pytest.mark.parametrize("how", ["scope", "block", "by hand"])
def test_a_listener_that_fails_before_commit_is_sent_has_kept_it_from_being_sent(
    world: World, of: str, how: str
) -> None:
    """That is no unknown outcome: it is rolled back, and can be done again."""
    log: list[str] = []
    failed: list[Any] = []

    def fail(*args: Any) -> None:
        if not failed:
            failed.append(args)
            raise Trouble

    def work(db: Both) -> None:
        insert(db, "a")
        db.on_commit(lambda: log.append("committed"))
        db.on_rollback(lambda: log.append("rolled back"))
        if of == "session":
            event.listen(plain(db), "before_commit", fail)
        else:
            event.listen(plain_engine(world.database), "commit", fail)

    def story(db: Both) -> None:
        with pytest.raises(Trouble):
            if how == "block":
                with db.scope(atomic=False), db.atomic():
                    work(db)
            else:
                with db.scope():
                    work(db)
                    if how == "by hand":
                        db.session.commit()
        with db.scope():
            insert(db, "b")

    world.play(story)
    assert world.items() == ["b"]
    assert log == ["rolled back"]
    assert world.database.stats()["outcomes_unknown"] == 0


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
def test_a_pool_whose_listener_fails_keeps_no_turn_to_write(world: World) -> None:
    """What is taken is given back on every way out."""
    failed: list[Any] = []

    def story(db: Both) -> None:
        @event.listens_for(plain_engine(world.database), "checkin")
        def on_checkin(*args: Any) -> None:
            if not failed:
                failed.append(args)
                raise Trouble

        with pytest.raises(Trouble), db.scope():
            insert(db, "a")
        with db.scope():
            insert(db, "b")
        failed[0][1].close()  # the pool has lost it

    world.play(story)
    assert world.items() == ["a", "b"]
    plain_engine(world.database).pool.dispose()
    world.database = type(world.database)(world.url)  # that one has less room now


# -- before ROLLBACK -------------------------------------------------------------------------------


def driver_commit(db: Both) -> None:
    """COMMIT by the driver's own connection."""
    raw: Any = plain(db).connection().connection.dbapi_connection
    raw.commit()


def connection_commit(db: Both) -> None:
    """COMMIT by SQLAlchemy's connection, past its session."""
    plain(db).connection().commit()


ENDS = [driver_commit, connection_commit]


@pytest.mark.worlds(drivers=lambda d: d not in MYSQL, places=["scope", "request", "block"])
@pytest.mark.filterwarnings("ignore:transaction already deassociated")  # SQLAlchemy's own word
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("out", ["error", "set_rollback", "doom", "by hand"])
def test_what_was_committed_elsewhere_is_not_told_as_rolled_back(
    world: World, end: Callable[[Both], None], out: str
) -> None:
    """No hook runs, nothing is tried again, and who asked for a rollback is told."""
    log: list[str] = []

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_rollback(lambda: log.append("rolled back"))
        db.on_commit(lambda: log.append("committed"))
        end(db)
        if out == "error":
            raise Trouble
        if out == "set_rollback":
            db.set_rollback()
        elif out == "doom":
            db.doom()
        elif world.place != "block":
            db.session.rollback()

    with pytest.raises(Trouble if out == "error" else TransactionEndedOutside):
        world.run(body)
    assert log == []
    assert world.items() == ["a"]


@pytest.mark.worlds(drivers=lambda d: d not in MYSQL, places=["scope"])
def test_what_was_committed_elsewhere_is_not_done_again(world: World) -> None:
    """Else it would be stored as often as it is tried."""

    def work(db: Both) -> None:
        insert(db, "a")
        driver_commit(db)
        raise Conflict

    def story(db: Both) -> None:
        with pytest.raises(Conflict):
            db.run(lambda: work(db))

    world.play(story)
    assert world.items() == ["a"]


@SCOPE
@pytest.mark.parametrize("how", ["requires_new", "scope", "gather", "not_supported"])
def test_what_has_stored_in_a_transaction_of_its_own_is_not_done_again(
    world: World, how: str
) -> None:
    """The part that is stored would be stored twice."""

    def store(db: Both) -> None:
        insert(db, f"inner {len(world.items())}")

    def work(db: Both) -> None:
        if how == "scope":
            with db.scope():
                store(db)
        elif how == "gather":
            db.gather(lambda: store(db))
        else:
            with db.atomic(propagation=how):
                store(db)
        raise Conflict

    def story(db: Both) -> None:
        with pytest.raises(Conflict):
            db.run(lambda: work(db))

    world.play(story)
    assert world.items() == ["inner 0"]


# -- what was said to be rolled back ---------------------------------------------------------------


@BARE
@pytest.mark.parametrize("said", ["doom", "set_rollback"])
@pytest.mark.parametrize("how", ["commit", "begin"])
def test_a_commit_by_hand_does_not_keep_what_is_to_be_rolled_back(
    world: World, said: str, how: str
) -> None:
    """It is refused by name, and the end rolls back as it was said."""

    def body(db: Both) -> None:
        if how == "begin":
            with pytest.raises(ManualCommitForbidden, match="marked for rollback"):
                transaction = db.begin()
                insert(db, "a")
                getattr(db, said)()
                waiting(transaction.commit)()
            return
        insert(db, "a")
        getattr(db, said)()
        with pytest.raises(ManualCommitForbidden, match=r"marked for rollback.*\.py:\d+"):
            db.session.commit()

    world.run(body)
    assert world.items() == []


@SCOPE
def test_a_transaction_that_a_connection_has_begun_ends_with_its_scope(world: World) -> None:
    """In autocommit, where `connection()` is the one thing that begins one."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            plain(db).connection().execute(text("INSERT INTO item (name) VALUES ('a')"))
        with pytest.raises(Trouble), db.scope(atomic=False):
            plain(db).connection().execute(text("INSERT INTO item (name) VALUES ('b')"))
            raise Trouble

    world.play(story)
    assert world.items() == ["a"]


# -- text past the session -------------------------------------------------------------------------


@pytest.mark.worlds(places=["scope", "request", "block"])
@pytest.mark.parametrize("words", ["COMMIT", "ROLLBACK", "/* x */ commit", "SELECT 1; COMMIT"])
@pytest.mark.parametrize("way", ["exec_driver_sql", "text"])
def test_what_ends_a_transaction_is_refused_on_its_connection_too(
    world: World, words: str, way: str
) -> None:
    """Nothing is sent, and the transaction goes on."""

    def body(db: Both) -> None:
        insert(db, "a")
        connection = plain(db).connection()
        with pytest.raises(ManualCommitForbidden):
            if way == "text":
                connection.execute(text(words))
            else:
                connection.exec_driver_sql(words)
        insert(db, "b")

    world.run(body)
    assert world.items() == ["a", "b"]


@BARE
@pytest.mark.filterwarnings("ignore:transaction already deassociated")  # SQLAlchemy's own word
def test_a_connection_that_was_closed_breaks_its_transaction(world: World) -> None:
    """By errors of ours, for statements and for the end; nothing is stored."""

    def body(db: Both) -> None:
        insert(db, "a")
        plain(db).connection().close()
        with pytest.raises(TransactionBroken):
            insert(db, "b")

    with pytest.raises(DBScopeError):
        world.run(body)
    assert world.items() == []
