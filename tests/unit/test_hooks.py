"""What is due after COMMIT or ROLLBACK, in which order, and never otherwise. Cases C."""

import asyncio
import functools
from contextlib import suppress
from typing import Any

import pytest

from dbscope import (
    Database,
    Rollback,
    TransactionManagementError,
    TransactionRequired,
    UnexpectedRollback,
)
from tests.unit.hooks import Log, Trouble, fail
from tests.worlds import Both, World, insert

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


@pytest.mark.worlds(places=["scope"], drivers=lambda d: d == "inline")
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


def test_hooks_of_a_rollback_run_innermost_first(world: World, log: Log) -> None:
    """C20: whether the inner blocks failed themselves, or ended well and are undone after all."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_rollback(log.note("outer, first"))
        with db.atomic():
            db.on_rollback(log.note("inner"))
            with db.atomic(savepoint=False):
                db.on_rollback(log.note("joined"))
                with db.atomic():
                    insert(db, "b")
                    db.on_rollback(log.note("innermost"))
        with db.atomic():
            db.on_rollback(log.note("inner, second"))
        db.on_rollback(log.note("outer, second"))
        with suppress(Trouble), db.atomic():
            db.on_rollback(log.note("at once"))
            raise Trouble
        raise Trouble

    with pytest.raises(Trouble):
        world.run(body)
    inner = ["innermost", "joined", "inner", "inner, second"]
    assert log == ["at once", *inner, "outer, first", "outer, second"]


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
def test_a_hook_that_was_cancelled_stops_no_other(world: World, log: Log) -> None:
    """It waited for what somebody has cancelled; the answer leaves, and the others run."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(cancelled)
        db.on_commit(lambda: log.append("ran"))

    world.run(body)
    assert (log, world.items()) == (["ran"], ["a"])


def cancelled() -> None:
    """End as who waits for a cancelled future does."""
    raise asyncio.CancelledError


@pytest.mark.worlds(places=["request"])
def test_a_failing_hook_does_not_change_the_answer(world: World, log: Log, caplog: Any) -> None:
    """C13: the data is committed, and a 5xx would make clients repeat it; it is logged."""
    world.run(lambda db: failing_hooks(db, log))
    assert (log, world.items()) == ([2, 4], ["a"])
    told = [record.exc_info[0] for record in caplog.records if record.name == "dbscope"]
    assert told == [Trouble, ValueError]


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
