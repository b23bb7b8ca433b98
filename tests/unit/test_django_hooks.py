"""The cases of Django's tests of `on_commit`, in our words; docs/adoption.md has what differs."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from dbscope import DBScopeError, TransactionManagementError, UnexpectedRollback
from tests.unit.blocks import Trouble
from tests.unit.hooks import Log, fail
from tests.unit.hooks import Trouble as HookTrouble
from tests.unit.test_broken import hang_up
from tests.worlds import PLACES, Both, Item, World, insert

everywhere = pytest.mark.worlds(places=["autocommit", *PLACES])
alone = pytest.mark.worlds(places=["autocommit"])


@pytest.fixture
def do(log: Log) -> Callable[[Both, int], None]:
    """Return what stores a number, and promises to write it down."""

    def store(db: Both, number: int) -> None:
        insert(db, str(number))
        db.on_commit(log.note(number))

    return store


Do = Callable[[Both, int], None]


def tell(world: World, log: Log, story: Callable[[Both], Any], *done: int) -> None:
    """Run a story; these numbers are stored, and written down in this order."""

    def body(db: Both) -> None:
        story(db)
        assert log == (list(done) if world.place == "autocommit" else [])

    world.run(body)
    assert log == list(done)
    assert sorted(world.items()) == sorted(map(str, done))


# -- when a hook runs ------------------------------------------------------------------------------


@alone
def test_without_a_transaction_it_runs_at_once(world: World, log: Log, do: Do) -> None:
    """Django: TestConnectionOnCommit.test_executes_immediately_if_no_transaction."""
    tell(world, log, lambda db: do(db, 1), 1)


@everywhere
@pytest.mark.parametrize("hook", [fail, functools.partial(fail)])
def test_a_robust_hook_hinders_nobody(
    world: World, log: Log, do: Do, hook: Any, caplog: Any
) -> None:
    """Its error is logged, and names it.

    Django: TestConnectionOnCommit.test_robust_transaction,
    test_robust_transaction_with_callback_as_partial.
    """

    def story(db: Both) -> None:
        with db.atomic():
            db.on_commit(hook, robust=True)
            do(db, 1)

    tell(world, log, story, 1)
    assert [str(record.exc_info[1]) for record in caplog.records] == ["a hook failed"]
    assert "fail" in caplog.text


@alone
@pytest.mark.parametrize("hook", [fail, functools.partial(fail)])
def test_without_a_transaction_a_robust_hook_hinders_nobody(
    world: World, log: Log, do: Do, hook: Any, caplog: Any
) -> None:
    """It is logged there, too.

    Django: TestConnectionOnCommit.test_robust_if_no_transaction,
    test_robust_if_no_transaction_with_callback_as_partial.
    """

    def story(db: Both) -> None:
        db.on_commit(hook, robust=True)
        do(db, 1)

    tell(world, log, story, 1)
    assert [str(record.exc_info[1]) for record in caplog.records] == ["a hook failed"]


@everywhere
def test_it_waits_for_the_outermost_commit(world: World, log: Log, do: Do) -> None:
    """In one block, and in one inside another.

    Django: TestConnectionOnCommit.test_delays_execution_until_after_transaction_commit,
    test_executes_only_after_final_transaction_committed.
    """

    def story(db: Both) -> None:
        with db.atomic():
            do(db, 1)
            with db.atomic():
                do(db, 2)
                assert log == []
            assert log == []

    tell(world, log, story, 1, 2)


@everywhere
def test_after_a_rollback_it_never_runs(world: World, log: Log, do: Do) -> None:
    """In the block that fails, and in one inside that had ended well.

    Django: TestConnectionOnCommit.test_does_not_execute_if_transaction_rolled_back,
    test_no_hooks_run_from_failed_transaction.
    """

    def story(db: Both) -> None:
        with pytest.raises(Trouble), db.atomic():
            do(db, 1)
            with db.atomic():
                do(db, 2)
            raise Trouble

    tell(world, log, story)


@everywhere
def test_a_failed_savepoint_takes_its_hooks_along(world: World, log: Log, do: Do) -> None:
    """Django: TestConnectionOnCommit.test_discards_hooks_from_rolled_back_savepoint."""

    def story(db: Both) -> None:
        with db.atomic():
            with db.atomic():
                do(db, 1)
            with pytest.raises(Trouble), db.atomic():
                do(db, 2)
                raise Trouble
            with db.atomic():
                do(db, 3)

    tell(world, log, story, 1, 3)


@everywhere
def test_a_failed_savepoint_takes_what_is_inside_along(world: World, log: Log, do: Do) -> None:
    """Django: TestConnectionOnCommit.test_inner_savepoint_rolled_back_with_outer."""

    def story(db: Both) -> None:
        with db.atomic():
            with pytest.raises(Trouble), db.atomic():
                with db.atomic():
                    do(db, 1)
                raise Trouble
            do(db, 2)

    tell(world, log, story, 2)


@everywhere
def test_a_joined_failure_takes_the_hooks_around_along(world: World, log: Log, do: Do) -> None:
    """Not silent here.

    Django: TestConnectionOnCommit.test_no_savepoints_atomic_merged_with_outer.
    """

    def story(db: Both) -> None:
        with db.atomic(), pytest.raises(UnexpectedRollback), db.atomic():
            do(db, 1)
            with pytest.raises(Trouble), db.atomic(savepoint=False):
                raise Trouble

    tell(world, log, story)


@everywhere
def test_an_inner_failure_leaves_the_hooks_around(world: World, log: Log, do: Do) -> None:
    """Django: TestConnectionOnCommit.test_inner_savepoint_does_not_affect_outer."""

    def story(db: Both) -> None:
        with db.atomic(), db.atomic():
            do(db, 1)
            with pytest.raises(Trouble), db.atomic():
                raise Trouble

    tell(world, log, story, 1)


@everywhere
def test_hooks_run_as_they_were_registered(world: World, log: Log, do: Do) -> None:
    """Django: TestConnectionOnCommit.test_runs_hooks_in_order_registered."""

    def story(db: Both) -> None:
        with db.atomic():
            do(db, 1)
            with db.atomic():
                do(db, 2)
            do(db, 3)

    tell(world, log, story, 1, 2, 3)


# -- a hook is forgotten ---------------------------------------------------------------------------


@everywhere
def test_a_hook_that_has_run_is_forgotten(world: World, log: Log, do: Do) -> None:
    """Django: TestConnectionOnCommit.test_hooks_cleared_after_successful_commit."""

    def story(db: Both) -> None:
        for number in (1, 2):
            with db.atomic():
                do(db, number)

    tell(world, log, story, 1, 2)


@everywhere
def test_a_hook_that_was_dropped_is_forgotten(world: World, log: Log, do: Do) -> None:
    """Django: TestConnectionOnCommit.test_hooks_cleared_after_rollback."""

    def story(db: Both) -> None:
        with pytest.raises(Trouble), db.atomic():
            do(db, 1)
            raise Trouble
        with db.atomic():
            do(db, 2)

    tell(world, log, story, 2)


@pytest.mark.worlds(places=["scope"])
def test_a_hook_is_forgotten_with_its_connection(world: World, log: Log, do: Do) -> None:
    """Django: TestConnectionOnCommit.test_hooks_cleared_on_reconnect; here it is an error, too."""

    def story(db: Both) -> None:
        with pytest.raises(DBScopeError), db.atomic():
            do(db, 1)
            hang_up(db)
        with db.atomic():
            do(db, 2)
        assert log == [2]

    world.play(story)
    assert world.items() == ["2"]


@alone
def test_a_hook_that_has_failed_is_forgotten(world: World, log: Log, do: Do) -> None:
    """Django: TestConnectionOnCommit.test_error_in_hook_doesnt_prevent_clearing_hooks."""

    def story(db: Both) -> None:
        with pytest.raises(HookTrouble), db.atomic():
            db.on_commit(fail)
        with db.atomic():
            do(db, 1)

    tell(world, log, story, 1)


# -- what a hook can do ----------------------------------------------------------------------------


@everywhere
def test_a_hook_can_ask(world: World, log: Log) -> None:
    """Django: TestConnectionOnCommit.test_db_query_in_hook."""

    def story(db: Both) -> None:
        with db.atomic():
            insert(db, "1")
            names = select(Item.name)
            db.on_commit(asking(db, lambda: log.extend(map(int, db.scalars(names)))))

    tell(world, log, story, 1)


@everywhere
def test_a_hook_can_have_blocks(world: World, log: Log) -> None:
    """Django: TestConnectionOnCommit.test_transaction_in_hook."""

    def story(db: Both) -> None:
        def hook() -> None:
            with db.atomic():
                log.append(int(insert(db, "1").name))

        with db.atomic():
            db.on_commit(asking(db, hook))

    tell(world, log, story, 1)


@everywhere
def test_a_hook_can_have_hooks(world: World, log: Log) -> None:
    """Django: TestConnectionOnCommit.test_hook_in_hook; theirs run before the next one."""

    def story(db: Both) -> None:
        def hook(number: int, *, more: bool) -> None:
            with db.atomic():
                if more:
                    inner = functools.partial(hook, number + 10, more=False)
                    db.on_commit(asking(db, inner))
                log.append(int(insert(db, str(number)).name))

        with db.atomic():
            db.on_commit(asking(db, functools.partial(hook, 1, more=True)))
            db.on_commit(asking(db, functools.partial(hook, 2, more=True)))

    tell(world, log, story, 1, 11, 2, 12)


def asking(db: Both, function: Callable[[], Any]) -> Callable[[], Any]:
    """Return a hook that uses the database, as this kind of database wants it."""
    return db.awaitable(function) if db.is_async else function


# -- what is no hook -------------------------------------------------------------------------------


@alone
def test_a_transaction_by_hand_has_no_hooks(world: World, log: Log, do: Do) -> None:
    """Django: TestConnectionOnCommit.test_raises_exception_non_autocommit_mode."""

    def story(db: Both) -> None:
        with db.session.begin(), pytest.raises(TransactionManagementError, match="by hand"):
            db.on_commit(log.note(1))

    tell(world, log, story)


@pytest.mark.worlds(places=["scope", "request"])
def test_in_a_scope_a_transaction_by_hand_has_them(world: World, log: Log, do: Do) -> None:
    """The other half of that case: there each COMMIT is known, whoever sends it."""

    def story(db: Both) -> None:
        with db.session.begin():
            do(db, 1)
        assert log == [1]

    world.run(story)
    assert world.items() == ["1"]


@everywhere
def test_what_cannot_be_called_is_no_hook(world: World, log: Log) -> None:
    """Django: TestConnectionOnCommit.test_raises_exception_non_callable."""

    def story(db: Both) -> None:
        with db.atomic(), pytest.raises(TypeError, match="callable"):
            db.on_commit(None)

    tell(world, log, story)
