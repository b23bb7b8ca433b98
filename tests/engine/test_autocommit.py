"""`scope(atomic=False)`: Django's autocommit, not the driver's (decision 11)."""

import os
import threading
from typing import Any

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy import insert as core_insert
from sqlalchemy.exc import IntegrityError

from dbscope import (
    AsyncDatabase,
    ConfigurationError,
    Database,
    TransactionOutcomeUnknown,
    UnexpectedRollback,
)
from tests.support.look import until
from tests.support.proxy import Proxy
from tests.worlds import Both, Child, Item, World, insert, is_postgresql, needs_late_check

pytestmark = pytest.mark.worlds(places=["scope"])


class Trouble(Exception):
    """Something that the application raises."""


def in_autocommit(world: World, body: Any) -> None:
    """Run the body in a scope of autocommit."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            body(db)

    world.play(story)


def test_each_statement_is_its_own_transaction(world: World) -> None:
    """A write is visible to others at once, and stays whatever comes after."""

    def body(db: Both) -> None:
        db.execute(core_insert(Item).values(name="a"))
        assert world.items() == ["a"]
        db.execute(update(Item).values(name="b"))
        assert world.items() == ["b"]
        raise Trouble

    with pytest.raises(Trouble):
        in_autocommit(world, body)
    assert world.items() == ["b"]
    assert world.sent() == ["BEGIN", "INSERT", "COMMIT", "BEGIN", "UPDATE", "COMMIT"]


def test_each_flush_is_one_transaction(world: World) -> None:
    """A failing flush leaves nothing (the driver's AUTOCOMMIT leaves an orphaned parent row)."""

    def body(db: Both) -> None:
        db.session.add_all([Item(name="a"), Item(name="b")])
        db.session.flush()
        assert world.items() == ["a", "b"]
        db.session.add_all([Item(name="c"), Item(name="c")])
        with pytest.raises(IntegrityError):
            db.session.flush()

    in_autocommit(world, body)
    assert world.items() == ["a", "b"]


@needs_late_check
def test_a_flush_whose_commit_fails_leaves_nothing(world: World) -> None:
    """A deferred constraint is looked at by COMMIT; then the next flush works."""

    def body(db: Both) -> None:
        db.session.add_all([Item(name="a"), Child(item_id=999)])
        with pytest.raises(IntegrityError):
            db.session.flush()
        assert world.items() == []
        db.session.expunge_all()
        insert(db, "b")

    in_autocommit(world, body)
    assert world.items() == ["b"]


def test_a_query_flushes_first_and_both_are_stored(world: World) -> None:
    """Autoflush is a flush."""

    def body(db: Both) -> None:
        db.session.add(Item(name="a"))
        assert db.scalar(select(Item.name)) == "a"
        assert world.items() == ["a"]

    in_autocommit(world, body)


def test_what_is_pending_at_the_end_is_stored(world: World) -> None:
    """As in every scope that ends well; and not if an error leaves it."""

    def failing(db: Both) -> None:
        db.session.add(Item(name="b"))
        raise Trouble

    in_autocommit(world, lambda db: db.session.add(Item(name="a")))
    with pytest.raises(Trouble):
        in_autocommit(world, failing)
    assert world.items() == ["a"]


def test_a_block_is_a_real_transaction(world: World) -> None:
    """With everything that belongs to one: COMMIT at its end, savepoints, rollback."""

    def body(db: Both) -> None:
        with db.atomic():
            insert(db, "a")
            assert world.items() == []
            with pytest.raises(Trouble), db.atomic():
                insert(db, "b")
                raise Trouble
        assert world.items() == ["a"]
        with pytest.raises(Trouble), db.atomic():
            insert(db, "c")
            raise Trouble
        insert(db, "d")

    in_autocommit(world, body)
    assert world.items() == ["a", "d"]


def test_what_is_pending_before_a_block_is_not_part_of_it(world: World) -> None:
    """It was added in autocommit, so the block's rollback does not undo it."""

    def body(db: Both) -> None:
        db.session.add(Item(name="a"))
        with pytest.raises(Trouble), db.atomic():
            insert(db, "b")
            raise Trouble

    in_autocommit(world, body)
    assert world.items() == ["a"]


def test_a_block_in_autocommit_can_break(world: World) -> None:
    """The rules of blocks hold in it, and end with it."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(UnexpectedRollback), db.atomic():
            insert(db, "b")
            with pytest.raises(IntegrityError):
                db.execute(core_insert(Item).values(name="a"))
        insert(db, "c")

    in_autocommit(world, body)
    assert world.items() == ["a", "c"]


@pytest.mark.parametrize(
    "failing",
    [
        lambda db: db.execute(core_insert(Item).values(name="a")),
        lambda db: insert(db, "a"),
        lambda db: db.execute(text("no sense at all")),
    ],
)
def test_an_error_breaks_nothing(world: World, failing: Any) -> None:
    """A17: the next statement is sent, without a rollback by hand."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(Exception, match=r"(?i)unique|duplicate|syntax"):
            failing(db)
        db.session.expunge_all()
        assert db.scalar(select(Item.name)) == "a"
        insert(db, "b")

    in_autocommit(world, body)
    assert world.items() == ["a", "b"]


def test_no_connection_is_held_between_statements(world: World) -> None:
    """Nor after one that failed, nor while a result is read."""

    def held(db: Both) -> int:
        return db.stats()["pool_checked_out"]

    def body(db: Both) -> None:
        insert(db, "a")
        assert held(db) == 0
        with pytest.raises(IntegrityError):
            insert(db, "a")
        assert held(db) == 0
        result = db.execute(select(Item.name))
        assert held(db) == 0
        assert result.all() == [("a",)]
        with db.atomic():
            insert(db, "b")
            assert held(db) == 1
        assert held(db) == 0

    in_autocommit(world, body)


def test_results_and_objects_are_as_usual(world: World) -> None:
    """Rows, mappings, scalars, objects with identity; row counts of writes."""

    def body(db: Both) -> None:
        item = insert(db, "a")
        assert db.get_by_pk(Item, item.id) is item
        assert db.execute(select(Item)).scalar_one() is item
        assert db.execute(select(Item.id, Item.name)).mappings().all()[0]["name"] == "a"
        assert db.scalars(select(Item.name)).all() == ["a"]
        assert db.execute(update(Item).values(name="b")).rowcount == 1
        db.session.refresh(item)
        assert item.name == "b"

    in_autocommit(world, body)


def test_a_request_can_autocommit(world: World) -> None:
    """`atomic_requests=False`: the same, for every request."""
    world.database = type(world.database)(world.url, atomic_requests=False)

    def body(db: Both) -> None:
        insert(db, "a")
        assert world.items() == ["a"]
        assert not db.in_transaction()
        raise Trouble

    def story(db: Both) -> None:
        with pytest.raises(Trouble):
            world.in_request(db, body)

    world.place = "request"
    world.play(story)
    assert world.items() == ["a"]


@pytest.mark.parametrize("kind", [AsyncDatabase, Database])
def test_an_engine_in_autocommit_is_refused(kind: type[AsyncDatabase | Database]) -> None:
    """It would keep the work of a scope that fails."""
    with pytest.raises(ConfigurationError, match="atomic_requests=False"):
        kind("sqlite://", engine_options={"isolation_level": "AUTOCOMMIT"})


# -- what no transaction can hold ------------------------------------------------------------------

UTILITIES = {
    "postgresql": [
        "VACUUM item",
        "/* now */ vacuum (analyze) item",
        "CREATE INDEX CONCURRENTLY item_again ON item (name)",
        "REINDEX INDEX CONCURRENTLY item_again",
        "DROP INDEX CONCURRENTLY item_again",
        f"CREATE DATABASE alone_{os.getpid()}",
        f"DROP DATABASE alone_{os.getpid()}",
        "ALTER SYSTEM RESET work_mem",
        "DO $$ BEGIN INSERT INTO item (name) VALUES ('b'); COMMIT; DELETE FROM item; END $$",
    ],
    "sqlite": ["VACUUM", "ATTACH ':memory:' AS other", "DETACH other", "ANALYZE", "REINDEX"],
    "mysql": ["OPTIMIZE TABLE item", "ANALYZE TABLE item", "FLUSH TABLES"],
}


def test_what_no_transaction_can_hold_is_committed_by_the_database(world: World) -> None:
    """Text that neither queries nor changes rows, and is a transaction of its own anyway."""

    def body(db: Both) -> None:
        for utility in UTILITIES[world.url.partition("+")[0]]:
            if "TACH" in utility and world.driver == "inline":
                continue  # it is of one connection, and the next statement may have another one
            db.execute(text(utility))
            assert db.stats()["pool_checked_out"] == 0
        insert(db, "a")

    in_autocommit(world, body)
    assert world.items() == ["a"]


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_what_is_pending_before_it_is_one_transaction(world: World) -> None:
    """A flush is all or nothing, whatever comes behind it."""

    def body(db: Both) -> None:
        db.session.add_all([Item(id=2, name="a"), Item(id=3, name="a")])
        with pytest.raises(IntegrityError):
            db.execute(text("VACUUM item"))
        db.session.expunge_all()
        db.session.add_all([Item(name="b"), Item(name="c")])
        db.execute(text("VACUUM item"))
        assert world.items() == ["b", "c"]

    in_autocommit(world, body)


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_in_a_block_it_is_the_databases_error(world: World) -> None:
    """A block is a transaction, and VACUUM cannot be in one."""

    def body(db: Both) -> None:
        with pytest.raises(Exception, match="cannot run inside a transaction"), db.atomic():
            db.execute(text("VACUUM item"))

    in_autocommit(world, body)


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_the_outcome_of_one_whose_answer_is_lost_is_unknown(world: World, proxy: Proxy) -> None:
    """It was sent, and the database commits it by itself."""
    world.database = type(world.database)(proxy.through(world.url))
    slow = "DO $$ BEGIN PERFORM pg_sleep(0.3); INSERT INTO item (name) VALUES ('a'); END $$"
    running = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE starts_with(query, 'DO ') AND wait_event = 'PgSleep'"  # not while it is prepared
    )

    def cut() -> None:
        until(lambda: world.look.scalar(running) == 1)
        proxy.cut_all()

    def body(db: Both) -> None:
        cutting = threading.Thread(target=cut)
        cutting.start()
        try:
            with pytest.raises(TransactionOutcomeUnknown):
                db.execute(text(slow))
        finally:
            cutting.join()
        assert until(lambda: world.items() == ["a"])

    in_autocommit(world, body)


def test_a_result_is_the_one_that_sqlalchemy_gives(world: World) -> None:
    """With all that it knows, though its connection was given back."""

    def body(db: Both) -> None:
        insert(db, "a")
        insert(db, "b")
        result = db.execute(text("SELECT id, name FROM item ORDER BY name"))
        assert result.returns_rows
        assert list(result.keys()) == ["id", "name"]
        assert result.scalars("name").all() == ["a", "b"]
        assert result.all() == []
        result = db.execute(text("SELECT name FROM item ORDER BY name"))
        assert [result.fetchone(), result.first()] == [("a",), ("b",)]
        result = db.execute(text("UPDATE item SET name = 'c' WHERE name = 'b'"))
        assert (result.returns_rows, result.rowcount) == (False, 1)
        with pytest.raises(Exception, match="does not return rows"):
            result.all()
        result = db.execute(core_insert(Item.__table__).values(name="d"))
        assert result.inserted_primary_key == (db.scalar(select(Item.id).filter_by(name="d")),)

    in_autocommit(world, body)


# -- the driver's own ------------------------------------------------------------------------------


def commit_by_yourself(connection: Any, *_: Any) -> None:
    """Tell a driver to store each statement at once, in its own way."""
    if callable(getattr(connection, "autocommit", None)):
        connection.autocommit(True)
    else:
        connection.autocommit = True


def in_a_scope(db: Both) -> None:
    with db.scope():
        insert(db, "a")
        raise Trouble


def in_a_block(db: Both) -> None:
    with db.scope(atomic=False), db.atomic():
        insert(db, "a")
        raise Trouble


def in_a_flush(db: Both) -> None:
    with db.scope(atomic=False):
        db.session.add_all([Item(name="a"), Child(item_id=-1)])


WITHOUT = ("sqlite3", "aiosqlite")  # of Python 3.11, whose autocommit is what the recipe uses


@pytest.mark.worlds(drivers=lambda driver: driver not in WITHOUT, places=["scope"])
@pytest.mark.parametrize("name", ["connect", "checkout"])
@pytest.mark.parametrize("act", [in_a_scope, in_a_block, in_a_flush])
def test_a_listener_cannot_make_a_transaction_autocommit(world: World, name: str, act: Any) -> None:
    """What is sent would stay, though the scope, the block or the flush fails."""

    def story(db: Both) -> None:
        engine: Any = db.engine
        event.listen(getattr(engine, "sync_engine", engine), name, commit_by_yourself)
        with pytest.raises(ConfigurationError, match="is in autocommit"):
            act(db)

    world.play(story)
    assert world.items() == []
