"""What is due after COMMIT or ROLLBACK, in which order, and never otherwise. Cases C."""

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from dbscope import (
    Database,
    Rollback,
    ScopeMissing,
    TransactionManagementError,
    TransactionOutcomeUnknown,
    TransactionRequired,
    UnexpectedRollback,
)
from tests.worlds import Both, Child, Item, World, insert, plain_engine


class Trouble(Exception):
    """Something that a hook or the application raises."""


class Log(list[Any]):
    """What has run, in order."""

    def note(self, what: Any) -> Callable[[], None]:
        """Return a hook that writes this down."""
        return lambda: self.append(what)


def fail() -> None:
    """Be a hook that fails."""
    raise Trouble("a hook failed")


@pytest.fixture
def log() -> Log:
    """An empty list that hooks write to."""
    return Log()


# -- when ------------------------------------------------------------------------------------------


def test_a_hook_runs_once_after_commit(world: World, log: Log) -> None:
    """C2: not before, and then it sees what was committed."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(lambda: log.append(world.items()))
        assert log == []

    world.run(body)
    assert log == [["a"]]


def test_a_hook_runs_when_the_connection_is_back(world: World, log: Log) -> None:
    """C2: a hook that waits for an hour holds nothing."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(lambda: log.append(db.stats()["pool_checked_out"]))

    world.run(body)
    assert log == [0]


def test_a_hook_of_an_empty_transaction_runs(world: World, log: Log) -> None:
    """C2: nothing was sent, and nothing failed."""
    world.run(lambda db: db.on_commit(log.note(1)))
    assert (log, world.statements) == ([1], [])


def test_a_hook_of_a_rolled_back_transaction_never_runs(world: World, log: Log) -> None:
    """C3: whether an exception leaves it or the rollback is meant."""

    def raising(db: Both) -> None:
        insert(db, "a")
        db.on_commit(log.note(1))
        raise Trouble

    def meant(db: Both) -> None:
        insert(db, "a")
        db.on_commit(log.note(2))
        db.set_rollback(True)

    with pytest.raises(Trouble):
        world.run(raising)
    world.run(meant)
    assert log == []


@pytest.mark.worlds(places=["scope"])
def test_outside_a_transaction_a_hook_runs_at_once(world: World, log: Log) -> None:
    """C1: outside any scope, and in autocommit."""

    def story(db: Both) -> None:
        db.on_commit(log.note(1))
        assert log == [1]
        with db.scope(atomic=False):
            insert(db, "a")
            db.on_commit(log.note(2))
            assert log == [1, 2]
        with pytest.raises(Trouble):
            db.on_commit(fail)
        db.on_rollback(log.note("never"))

    world.play(story)
    assert log == [1, 2]


@pytest.mark.worlds(places=["scope"], drivers=lambda d: d == "aiosqlite")
def test_outside_a_transaction_nobody_can_await_a_hook_at_once(world: World, log: Log) -> None:
    """C1, C28: in autocommit an async hook waits for the end of the scope; else it is refused."""

    def story(db: Both) -> None:
        hook = db.awaitable(log.note(1))
        with pytest.raises(TransactionRequired):
            db.on_commit(hook)
        with db.scope(atomic=False):
            db.on_commit(hook)
            assert log == []
        assert log == [1]

    world.play(story)


@pytest.mark.worlds(places=["scope"])
def test_a_transaction_begun_by_hand_in_autocommit_takes_no_hook(world: World, log: Log) -> None:
    """C17: nobody would tell us of its end."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            db.begin()
            with pytest.raises(TransactionManagementError, match="by hand"):
                db.on_commit(log.note(1))
            db.session.commit()

    world.play(story)
    assert log == []


# -- blocks ----------------------------------------------------------------------------------------


def test_a_nested_hook_waits_for_the_outermost_commit(world: World, log: Log) -> None:
    """C4: in a real savepoint, in one that was left out, and in a joined block."""

    def body(db: Both) -> None:
        with db.atomic():
            db.on_commit(log.note("left out"))
        insert(db, "a")
        with db.atomic():
            insert(db, "b")
            db.on_commit(log.note("savepoint"))
            with db.atomic(savepoint=False):
                db.on_commit(log.note("joined"))
        assert log == []

    world.run(body)
    assert log == ["left out", "savepoint", "joined"]


@pytest.mark.worlds(places=["scope"])
def test_a_block_of_its_own_runs_its_hooks_when_left(world: World, log: Log) -> None:
    """C4: a block outside any scope, or in autocommit, is outermost."""

    def story(db: Both) -> None:
        with db.atomic():
            insert(db, "a")
            db.on_commit(lambda: log.append(world.items()))
        assert log == [["a"]]
        with db.scope(atomic=False):
            with db.atomic():
                db.on_commit(log.note(2))
                assert len(log) == 1
            assert log[1:] == [2]

    world.play(story)


@pytest.mark.parametrize("first", [None, "a"])
def test_a_failed_block_takes_its_hooks_with_it(world: World, log: Log, first: str) -> None:
    """C5, C9: those of the others run, whether its savepoint was sent or left out."""

    def body(db: Both) -> None:
        if first:
            insert(db, first)
        db.on_commit(log.note(0))
        for number in (1, 2, 3):
            with suppress(Trouble), db.atomic():
                insert(db, str(number))
                db.on_commit(log.note(number))
                if number == 2:
                    raise Trouble
        with db.atomic():
            db.on_commit(log.note(4))
            raise Rollback

    world.run(body)
    assert log == [0, 1, 3]


def test_released_hooks_are_lost_with_the_outer_block(world: World, log: Log) -> None:
    """C6: a released savepoint is not stored yet."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            insert(db, "b")
            with db.atomic():
                insert(db, "c")
                db.on_commit(log.note(1))
            db.set_rollback(True)

    world.run(body)
    assert (log, world.items()) == ([], ["a"])


def test_a_failed_joined_block_loses_all_hooks(world: World, log: Log) -> None:
    """C8: the failure was swallowed, so the whole is UnexpectedRollback."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(log.note(1))
        with suppress(Trouble), db.atomic(savepoint=False):
            db.on_commit(log.note(2))
            raise Trouble

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert log == []


def test_hooks_run_in_the_order_of_registration(world: World, log: Log) -> None:
    """C10: nested or not."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(log.note(1))
        with db.atomic():
            insert(db, "b")
            db.on_commit(log.note(2))
        db.on_commit(log.note(3))

    world.run(body)
    assert log == [1, 2, 3]


def test_a_hook_is_forgotten_when_it_has_run_or_was_dropped(world: World, log: Log) -> None:
    """C11: the next transaction repeats neither."""

    def dropped(db: Both) -> None:
        db.on_commit(log.note("dropped"))
        raise Trouble

    def story(db: Both) -> None:
        world.inside(db, lambda db: db.on_commit(log.note(1)))
        with pytest.raises(Trouble):
            world.inside(db, dropped)
        world.inside(db, lambda db: insert(db, "a"))

    world.play(story)
    assert log == [1]


@pytest.mark.worlds(places=["scope", "request"])
def test_a_savepoint_by_hand_runs_no_hook(world: World, log: Log) -> None:
    """C30: its hooks share its fate, and wait for COMMIT."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.session.begin_nested():
            insert(db, "b")
            db.on_commit(log.note("released"))
        with suppress(Trouble), db.session.begin_nested():
            db.on_commit(log.note("rolled back"))
            raise Trouble
        assert log == []

    world.run(body)
    assert log == ["released"]


def test_hooks_of_another_database_are_its_own(world: World, log: Log) -> None:
    """C23: what fails there changes nothing here."""
    other = Both(type(world.database)(world.url, name="other"))

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(log.note("here"))
        other.on_commit(log.note("there"))
        with suppress(Trouble), other.atomic():
            other.on_commit(log.note("in a failed block there"))
            db.on_commit(log.note("still here"))
            raise Trouble

    world.run(body)
    assert log == ["here", "still here", "there"]


# -- errors ----------------------------------------------------------------------------------------


def failing_hooks(db: Both, log: Log) -> None:
    """Register hooks of which some fail."""
    insert(db, "a")
    db.on_commit(fail)
    db.on_commit(log.note(2))
    db.on_commit(functools.partial(int, "no number"))
    db.on_commit(log.note(4))


@pytest.mark.worlds(places=["scope", "block"])
def test_all_hooks_run_and_the_first_error_is_raised(world: World, log: Log) -> None:
    """C13: with the others noted on it; the work is stored, and the list is empty."""
    with pytest.raises(Trouble) as caught:
        world.run(lambda db: failing_hooks(db, log))
    assert "no number" in caught.value.__notes__[0]
    assert (log, world.items()) == ([2, 4], ["a"])
    assert world.database.stats()["hooks_failed"] == 2
    world.run(lambda db: insert(db, "b"))


@pytest.mark.worlds(places=["request"])
def test_a_failing_hook_does_not_change_the_answer(world: World, log: Log, caplog: Any) -> None:
    """C13: the data is committed, and a 5xx would make clients repeat it; it is logged."""
    world.run(lambda db: failing_hooks(db, log))
    assert (log, world.items()) == ([2, 4], ["a"])
    assert [record.exc_info[0] for record in caplog.records] == [Trouble, ValueError]


@pytest.mark.parametrize("hook", [fail, functools.partial(fail)])
def test_a_robust_hook_is_logged(world: World, log: Log, caplog: Any, hook: Any) -> None:
    """C14: with its name and traceback; the rest runs, and nothing is raised."""

    def body(db: Both) -> None:
        db.on_commit(hook, robust=True)
        db.on_commit(log.note(2))

    world.run(body)
    assert log == [2]
    assert "hook fail of" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.worlds(places=["scope"])
def test_a_robust_hook_outside_a_transaction_is_logged(world: World, caplog: Any) -> None:
    """C14: where it runs at once, too."""
    world.play(lambda db: db.on_commit(fail, robust=True))
    assert "hook fail" in caplog.text


def test_a_failing_rollback_hook_does_not_hide_why(world: World, log: Log, caplog: Any) -> None:
    """C13, C20: the error that rolled back is the one that leaves."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_rollback(fail)
        db.on_rollback(log.note(2))
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        world.run(body)
    assert log == [2]
    assert "a hook failed" in caplog.text


@pytest.mark.worlds(places=["scope"])
def test_only_functions_can_be_hooks(world: World) -> None:
    """C18: TypeError when it is registered, in a transaction or not."""

    def story(db: Both) -> None:
        for register in (db.on_commit, db.on_rollback, db.before_commit):
            with pytest.raises(TypeError, match="callable"):
                register("send_mail")
            with db.scope(), pytest.raises(TypeError, match="callable"):
                register("send_mail")

    world.play(story)


async def coroutine() -> None: ...


def test_a_plain_database_awaits_no_hook() -> None:
    """C28: it says so when the hook is registered, and names the companion that can."""
    db = Database("sqlite://")
    with db.scope(), pytest.raises(TypeError, match=r"db\.async_"):
        db.on_commit(coroutine)


def test_a_finished_block_takes_no_hook(world: World, log: Log) -> None:
    """C19: whoever has kept it learns that it is over."""

    def body(db: Both) -> None:
        with db.atomic() as block:
            insert(db, "a")
            block.on_commit(log.note(1))
        with pytest.raises(TransactionManagementError, match="finalized"):
            block.on_commit(log.note(2))

    world.run(body)
    assert log == [1]


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
