"""Nothing is paid for what is not used. Cases F of the rule book."""

from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from tests.unit.blocks import Trouble, twice, twice_by_flush
from tests.worlds import Both, Item, World, insert

# -- nothing is paid for what is not used: cases F -------------------------------------------------


def test_an_empty_transaction_sends_nothing(world: World) -> None:
    """F1: nor do empty blocks in it, nor a session that was only looked at."""

    def body(db: Both) -> None:
        assert db.session is not None
        with db.atomic(), db.atomic():
            pass
        with db.atomic(savepoint=False), db.savepoint():
            db.set_rollback(True)

    world.run(body)
    assert world.statements == []
    assert world.database.stats()["transactions"] == 0


def test_raising_before_the_first_statement_sends_nothing(world: World) -> None:
    """F1: there is nothing to roll back."""

    def body(db: Both) -> None:
        with pytest.raises(Trouble), db.atomic():
            raise Trouble
        raise Trouble

    with pytest.raises(Trouble):
        world.run(body)
    assert world.statements == []


def test_a_block_in_a_fresh_transaction_costs_nothing(world: World) -> None:
    """F1: its savepoint is left out, at every depth."""

    def body(db: Both) -> None:
        with db.atomic(), db.atomic(), db.savepoint():
            insert(db, "a")

    world.run(body)
    assert world.sent() == ["BEGIN", "INSERT", "COMMIT"]


def test_a_savepoint_is_sent_with_the_first_statement_inside(world: World) -> None:
    """F1, F3: never for an empty block."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            pass
        with pytest.raises(Trouble), db.atomic():
            raise Trouble
        with db.atomic(), db.atomic():
            insert(db, "b")

    world.run(body)
    nested = ["SAVEPOINT", "INSERT", "RELEASE"]
    assert world.sent() == ["BEGIN", "INSERT", *nested, "COMMIT"]


def test_a_block_at_the_start_of_a_savepoint_costs_nothing(world: World) -> None:
    """F1: as at the start of a transaction, at every depth; what comes later needs its own."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            with db.atomic(), db.atomic(savepoint=False), db.savepoint():
                insert(db, "b")
            with db.atomic(), db.atomic():
                insert(db, "c")

    world.run(body)
    inner = ["SAVEPOINT", "INSERT", "RELEASE"]
    assert world.sent() == ["BEGIN", "INSERT", "SAVEPOINT", "INSERT", *inner, "RELEASE", "COMMIT"]
    assert world.items() == ["a", "b", "c"]


def test_a_block_whose_savepoint_was_left_out_restarts_the_savepoint(world: World) -> None:
    """F1: what is around that is kept, and what comes after begins with a savepoint again."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            for failing in (twice, twice_by_flush):
                with pytest.raises(IntegrityError), db.atomic(), db.atomic():
                    failing(db)
            with db.atomic():
                insert(db, "b")
            insert(db, "c")
            with pytest.raises(Trouble), db.atomic():
                insert(db, "d")
                raise Trouble

    world.run(body)
    failing = ["SAVEPOINT", "INSERT", "ROLLBACK TO", "RELEASE"]
    going_on = ["SAVEPOINT", "INSERT", "INSERT", *failing, "RELEASE"]
    assert world.sent() == ["BEGIN", "INSERT", *failing, *failing, *going_on, "COMMIT"]
    assert world.items() == ["a", "b", "c"]


@pytest.mark.worlds(places=["scope", "request"])
@pytest.mark.parametrize("opened", ["begin", "begin_nested"])
def test_what_was_begun_by_hand_is_not_restarted(world: World, opened: str) -> None:
    """F1, G10: whoever has begun it holds it in the hand; a failing block inside leaves it open."""

    def body(db: Both) -> None:
        with getattr(db.session, opened)():
            with pytest.raises(Trouble), db.atomic():
                insert(db, "a")
                raise Trouble
            insert(db, "b")

    world.run(body)
    assert world.items() == ["b"]


@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_a_failure_in_a_savepoint_leaves_the_one_around_it(world: World, failing: Any) -> None:
    """A4: it can go on, be released and be rolled back itself."""

    def body(db: Both) -> None:
        insert(db, "a")
        for trouble in (None, Trouble):
            with suppress(Trouble), db.atomic():
                insert(db, f"b {trouble}")
                with pytest.raises(IntegrityError), db.atomic():
                    failing(db)
                insert(db, f"c {trouble}")
                if trouble is not None:
                    raise trouble

    world.run(body)
    assert world.items() == ["a", "b None", "c None"]


@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_a_savepoint_that_was_rolled_back_is_released(world: World, failing: Any) -> None:
    """F1: a loop of failing blocks would pile them up; https://code.djangoproject.com/ticket/23074."""

    def body(db: Both) -> None:
        insert(db, "a")
        for _ in range(2):
            with pytest.raises(IntegrityError), db.atomic():
                failing(db)

    world.run(body)
    failing = ["SAVEPOINT", "INSERT", "ROLLBACK TO", "RELEASE"]
    assert world.sent() == ["BEGIN", "INSERT", *failing, *failing, "COMMIT"]


def test_a_block_whose_savepoint_was_left_out_restarts_the_transaction(world: World) -> None:
    """F1: when it fails, the transaction has done nothing else, so all of it is rolled back."""

    def body(db: Both) -> None:
        with pytest.raises(Trouble), db.atomic():
            insert(db, "a")
            raise Trouble
        insert(db, "b")

    world.run(body)
    assert world.items() == ["b"]
    assert world.sent() == ["BEGIN", "INSERT", "ROLLBACK", "BEGIN", "INSERT", "COMMIT"]


def test_what_is_pending_belongs_to_the_block_it_was_added_in(world: World) -> None:
    """F1: it is stored before the savepoint, so a failure inside does not lose it."""

    def body(db: Both) -> None:
        db.session.add(Item(name="a"))
        with pytest.raises(Trouble), db.atomic():
            db.session.add(Item(name="b"))
            raise Trouble

    world.run(body)
    assert world.items() == ["a"]


def test_an_object_that_was_only_read_is_kept_by_a_failing_block(world: World) -> None:
    """F1: ROLLBACK would expire what the application has read before, and ROLLBACK TO does not."""

    def body(db: Both) -> None:
        item = insert(db, "a")
        if world.place != "block":
            db.session.commit()
        sent = len(world.sent())
        for _ in range(2):
            with pytest.raises(Trouble), db.atomic(), db.atomic():
                insert(db, "b")
                raise Trouble
        assert list(db.session.identity_map.values()) == [item]
        assert item.name == "a"
        assert world.sent()[sent:].count("SAVEPOINT") == 2

    world.run(body)
    assert world.items() == ["a"]


@pytest.mark.worlds(places=["scope", "request"])
def test_taking_the_connection_opens_what_was_put_off(world: World) -> None:
    """F3: who has the connection can send anything, so BEGIN and SAVEPOINT go first."""

    def body(db: Both) -> None:
        db.session.connection()
        assert world.sent() == ["BEGIN"]
        with db.atomic():
            db.session.connection()
            assert world.sent() == ["BEGIN", "SAVEPOINT"]

    world.run(body)
    assert world.sent() == ["BEGIN", "SAVEPOINT", "RELEASE", "COMMIT"]


def test_only_what_was_sent_is_counted(world: World) -> None:
    """F6: a transaction for which BEGIN was sent, and how it ended."""

    def story(db: Both) -> None:
        world.inside(db, lambda db: None)
        world.inside(db, lambda db: insert(db, "a"))
        with pytest.raises(IntegrityError):
            world.inside(db, lambda db: insert(db, "a"))
        counters = world.database.stats()
        told = [counters[name] for name in ("transactions", "commits", "rollbacks")]
        assert told == [2, 1, 1]

    world.play(story)


def read(db: Both) -> None:
    """Read only."""
    db.scalar(select(Item.name))


def read_in_block(db: Both) -> None:
    """Read where `atomic` says that something will be written."""
    with db.atomic():
        read(db)


SQLITE = pytest.mark.worlds(
    places=["request"], drivers=lambda d: d in {"inline", "aiosqlite", "sqlite3"}
)


@SQLITE
@pytest.mark.parametrize(
    ("method", "body", "begin"),
    [
        ("GET", read_in_block, "BEGIN IMMEDIATE"),
        ("GET", read, "BEGIN"),
        ("HEAD", read, "BEGIN"),
        ("GET", lambda db: insert(db, "a"), "BEGIN IMMEDIATE"),
        ("GET", lambda db: db.execute(text("DELETE FROM item")), "BEGIN IMMEDIATE"),
        ("POST", read, "BEGIN IMMEDIATE"),
        ("DELETE", read, "BEGIN IMMEDIATE"),
    ],
)
def test_a_request_that_will_write_says_so_at_once(
    world: World, method: str, body: Any, begin: str
) -> None:
    """F5: and one that reads never waits for a writer."""
    world.play(lambda db: world.in_request(db, body, method))
    assert world.statements[0] == begin


@pytest.mark.worlds(places=["scope"], drivers=lambda d: d in {"inline", "aiosqlite", "sqlite3"})
def test_a_job_or_a_block_of_its_own_will_write(world: World) -> None:
    """F5: whoever opens a scope or writes `atomic` means to write."""

    def story(db: Both) -> None:
        for opened in (db.scope(), db.atomic()):
            with opened:
                read(db)

    world.play(story)
    assert world.statements.count("BEGIN IMMEDIATE") == 2
