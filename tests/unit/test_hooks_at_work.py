"""What a hook can do, `on_rollback` and `before_commit`. Cases C of the rule book."""

import functools
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from dbscope import (
    Rollback,
    ScopeMissing,
    TransactionOutcomeUnknown,
    TransactionRequired,
)
from tests.unit.hooks import Log, Trouble, fail
from tests.worlds import Both, Child, Item, World, insert, needs_late_check, plain_engine

# -- what a hook can do ----------------------------------------------------------------------------


def test_a_hook_has_a_unit_of_its_own(world: World, log: Log) -> None:
    """C15: it sees what was committed, and what it writes is real."""

    def hook(db: Both) -> None:
        log.append(db.scalar(select(func.count(Item.id))))
        insert(db, "flushed")
        with db.atomic():
            insert(db, "in a block")
        with suppress(Trouble), db.atomic():
            insert(db, "undone")
            raise Trouble

    def body(db: Both) -> None:
        insert(db, "a")
        session = db.real.session
        db.on_commit(lambda: hook(db))
        db.on_commit(lambda: log.append(world.items()))
        db.on_commit(lambda: log.append(db.real.session is session))

    world.run(body)
    assert log == [1, ["a", "flushed", "in a block"], False]
    assert world.items() == ["a", "flushed", "in a block"]


@pytest.mark.worlds(places=["scope", "block"])
def test_a_hook_that_fails_stores_nothing(world: World, log: Log) -> None:
    """C13, C15: each hook succeeds or fails alone."""

    def hook(db: Both, name: str) -> None:
        insert(db, name)
        if name == "bad":
            raise Trouble

    def body(db: Both) -> None:
        for name in ("first", "bad", "last"):
            db.on_commit(functools.partial(hook, db, name))

    with pytest.raises(Trouble):
        world.run(body)
    assert world.items() == ["first", "last"]


@needs_late_check
@pytest.mark.worlds(places=["scope", "block"])
def test_a_hook_whose_commit_fails_has_failed(world: World, log: Log) -> None:
    """C15, C25: its own work is judged like any other."""

    def orphan(db: Both) -> None:
        db.on_commit(log.note("never"))
        add_orphan(db)

    def body(db: Both) -> None:
        db.on_commit(lambda: orphan(db))
        db.on_commit(log.note("next"))

    with pytest.raises(IntegrityError):
        world.run(body)
    assert log == ["next"]


def test_a_hook_can_register_hooks(world: World, log: Log) -> None:
    """C28: they run when its own unit is committed, before the next hook (1, 11, 2, 12)."""

    def hook(db: Both, number: int) -> None:
        log.append(number)
        db.on_commit(log.note(number + 10))
        with db.atomic():
            insert(db, str(number))
        assert number + 10 not in log

    def body(db: Both) -> None:
        db.on_commit(functools.partial(hook, db, 1))
        db.on_commit(functools.partial(hook, db, 2))

    world.run(body)
    assert log == [1, 11, 2, 12]


def test_async_and_plain_hooks_are_awaited_in_order(world: World, log: Log) -> None:
    """C28: each ends before the next begins."""

    def body(db: Both) -> None:
        def slow() -> None:
            with db.atomic():
                insert(db, "slow")
            log.append("slow")

        db.on_commit(log.note("first"))
        db.on_commit(db.awaitable(slow))
        db.on_commit(log.note("last"))

    world.run(body)
    assert log == ["first", "slow", "last"]


@pytest.mark.worlds(places=["scope"])
def test_a_hook_outside_any_scope_has_none(world: World, log: Log) -> None:
    """C1: what runs at once runs where it was registered."""

    def story(db: Both) -> None:
        with pytest.raises(ScopeMissing):
            db.on_commit(lambda: db.session)

    world.play(story)


# -- on_rollback -----------------------------------------------------------------------------------


def test_rollback_hooks_run_at_the_rollback(world: World, log: Log) -> None:
    """C20: of a savepoint immediately, of the whole at its end, and once."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_rollback(log.note("whole"))
        with suppress(Trouble), db.atomic():
            insert(db, "b")
            db.on_rollback(log.note("savepoint"))
            raise Trouble
        assert log == ["savepoint"]
        raise Trouble

    with pytest.raises(Trouble):
        world.run(body)
    assert log == ["savepoint", "whole"]


def test_rollback_hooks_of_a_success_never_run(world: World, log: Log) -> None:
    """C20: nor do those of a block that was left out of the wire."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_rollback(log.note(1))
        with db.atomic():
            db.on_rollback(log.note(2))

    world.run(body)
    assert log == []


def test_rollback_hooks_of_a_released_savepoint_share_the_fate_of_the_whole(
    world: World, log: Log
) -> None:
    """C20: Laravel forgot them, and a lock was never released in production (#60482)."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            insert(db, "b")
            db.on_rollback(log.note("inner"))
        db.on_rollback(log.note("outer"))
        raise Trouble

    with pytest.raises(Trouble):
        world.run(body)
    assert log == ["inner", "outer"]


def add_orphan(db: Both) -> None:
    """Store a child without parent: COMMIT will fail."""
    db.session.add(Child(item_id=999))
    db.session.flush()


@needs_late_check
def test_a_failed_commit_is_a_rollback(world: World, log: Log) -> None:
    """C25: on_commit never, on_rollback yes; its error leaves."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(log.note("commit"))
        db.on_rollback(log.note("rollback"))
        add_orphan(db)

    with pytest.raises(IntegrityError):
        world.run(body)
    assert (log, world.items()) == (["rollback"], [])


def lose_the_answer(world: World) -> None:
    """Let the next COMMITs succeed, and their answers be lost."""
    dialect = plain_engine(world.database).dialect
    commit = dialect.do_commit

    def do_commit(connection: Any) -> None:
        commit(connection)
        raise ConnectionResetError("the answer was lost")

    dialect.do_commit = do_commit


def test_no_hook_runs_when_the_outcome_is_unknown(world: World, log: Log) -> None:
    """C27: of either kind; the connection is discarded."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(log.note("commit"))
        db.on_rollback(log.note("rollback"))
        lose_the_answer(world)

    with pytest.raises(TransactionOutcomeUnknown):
        world.run(body)
    assert (log, world.items()) == ([], ["a"])
    assert world.database.stats()["outcomes_unknown"] == 1


# -- before_commit ---------------------------------------------------------------------------------


def test_before_commit_runs_inside_the_transaction(world: World, log: Log) -> None:
    """What it writes is part of it; each runs once, in order, also one registered by another."""

    def first(db: Both) -> None:
        log.append(world.items())
        insert(db, "by a hook")
        db.before_commit(log.note("registered late"))

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            db.before_commit(lambda: first(db))
        db.before_commit(log.note("second"))

    world.run(body)
    assert log == [[], "second", "registered late"]
    assert world.items() == ["a", "by a hook"]


def test_an_error_before_commit_rolls_back(world: World, log: Log) -> None:
    """And leaves as it is."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.before_commit(fail)
        db.on_commit(log.note("commit"))
        db.on_rollback(log.note("rollback"))

    with pytest.raises(Trouble):
        world.run(body)
    assert (log, world.items()) == (["rollback"], [])


def test_a_rolled_back_block_takes_its_before_commit_along(world: World, log: Log) -> None:
    """Like its other hooks; and a transaction that is rolled back runs none."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            db.before_commit(log.note("of a failed block"))
            raise Rollback
        db.before_commit(log.note("of the whole"))
        raise Trouble

    with pytest.raises(Trouble):
        world.run(body)
    assert log == []


@pytest.mark.worlds(places=["scope"])
def test_before_commit_of_a_block_of_its_own(world: World, log: Log) -> None:
    """A root is a root: outside any scope, in autocommit; it needs a transaction."""

    def story(db: Both) -> None:
        with pytest.raises(TransactionRequired):
            db.before_commit(fail)
        with db.atomic():
            db.before_commit(lambda: insert(db, "a"))
        with db.scope(atomic=False):
            with db.atomic():
                db.before_commit(lambda: insert(db, "b"))
            with pytest.raises(Trouble), db.atomic():
                insert(db, "c")
                db.before_commit(fail)

    world.play(story)
    assert world.items() == ["a", "b"]


@pytest.mark.worlds(places=["scope", "request"])
def test_before_commit_by_hand(world: World, log: Log) -> None:
    """`session.commit()` is a COMMIT too, and a savepoint by hand is none."""

    def body(db: Both) -> None:
        with db.session.begin_nested():
            db.before_commit(lambda: insert(db, "by a hook"))
            insert(db, "a")
        assert log == []
        db.before_commit(log.note("before"))
        db.session.commit()
        assert (log, world.items()) == (["before"], ["a", "by a hook"])
        insert(db, "b")
        db.before_commit(fail)
        with pytest.raises(Trouble):
            db.session.commit()
        db.session.rollback()
        insert(db, "c")

    world.run(body)
    assert world.items() == ["a", "by a hook", "c"]


def test_what_will_be_rolled_back_is_not_prepared_for_commit(world: World, log: Log) -> None:
    """A hook that would run in a doomed transaction could only mislead."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.before_commit(log.note(1))
        db.set_rollback(True)

    world.run(body)
    assert (log, world.items()) == ([], [])


@pytest.mark.worlds(places=["scope"])
def test_what_is_only_added_is_no_transaction_by_hand(world: World, log: Log) -> None:
    """C1, C17: in autocommit the session has not begun anything that could be rolled back."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            db.session.add(Item(name="a"))
            db.on_commit(log.note(1))
            assert log == [1]
        db.decorated(db.real.scope(atomic=False), lambda: add_in_durable(db))()

    world.play(story)
    assert world.items() == ["a", "b"]


def add_in_durable(db: Both) -> None:
    """Add something in a durable function, which leaves no transaction open by that."""
    db.decorated(db.real.durable, lambda: db.session.add(Item(name="b")))()
