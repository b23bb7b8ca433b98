"""The cases of Django's tests of what goes wrong, and of `durable`, in our words."""

from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, SAWarning

from dbscope import (
    ConfigurationError,
    DBScopeError,
    DurableError,
    ManualCommitForbidden,
    Rollback,
    TransactionBroken,
    UnexpectedRollback,
)
from tests.unit.blocks import Trouble, swallow, twice, twice_by_flush
from tests.unit.test_broken import hang_up
from tests.unit.test_django_atomic import everywhere, last_savepoint
from tests.worlds import Both, Item, World, insert, is_postgresql

alone = pytest.mark.worlds(places=["autocommit"])


def stored(db: Both) -> int | None:
    """Count what this scope sees."""
    found: int | None = db.scalar(select(func.count()).select_from(Item))
    return found


# -- what a block does not allow -------------------------------------------------------------------


@alone
def test_a_block_is_not_turned_into_autocommit(world: World) -> None:
    """The mode is the scope's.

    Django: AtomicErrorsTests.test_atomic_prevents_setting_autocommit.
    """

    def story(db: Both) -> None:
        with pytest.raises(ConfigurationError), db.atomic(isolation="AUTOCOMMIT"):
            pytest.fail("it was let in")
        with pytest.raises(Trouble), db.atomic():
            insert(db, "a")
            with pytest.warns(SAWarning, match="ignored"):
                db.session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            insert(db, "b")
            raise Trouble

    world.run(story)
    assert world.items() == []


@everywhere
def test_a_block_is_not_ended_by_hand(world: World) -> None:
    """Django: AtomicErrorsTests.test_atomic_prevents_calling_transaction_methods."""

    def story(db: Both) -> None:
        with db.atomic():
            insert(db, "a")
            for end in (db.session.commit, db.session.rollback):
                with pytest.raises(ManualCommitForbidden):
                    end()

    world.run(story)
    assert world.items() == ["a"]


@alone
@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_a_broken_block_asks_nothing(world: World, failing: Any) -> None:
    """Django: AtomicErrorsTests.test_atomic_prevents_queries_in_broken_transaction."""

    def story(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(UnexpectedRollback), db.atomic():
            error = swallow(db, failing)
            with pytest.raises(TransactionBroken) as caught:
                insert(db, "b")
            assert caught.value.__cause__ is error
            db.session.expunge_all()

    world.run(story)
    assert world.items() == ["a"]


@pytest.mark.worlds(places=["autocommit"], drivers=lambda d: not is_postgresql(d))
def test_a_block_that_was_mended_goes_on(world: World) -> None:
    """Django: AtomicErrorsTests.test_atomic_allows_queries_after_fixing_transaction.

    As in Django not on PostgreSQL, whose transaction can do nothing more.
    """

    def story(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            swallow(db, twice)
            db.set_rollback(False)
            insert(db, "b")

    world.run(story)
    assert world.items() == ["a", "b"]


@alone
def test_a_block_whose_connection_was_closed_asks_nothing(world: World) -> None:
    """And what comes after has another connection.

    Django:
    AtomicErrorsTests.test_atomic_prevents_queries_in_broken_transaction_after_client_close.
    """

    def story(db: Both) -> None:
        with pytest.raises(UnexpectedRollback), db.atomic():
            insert(db, "a")
            hang_up(db)
            with pytest.raises((DBScopeError, DBAPIError)):
                insert(db, "b")
            db.session.expunge_all()
        assert stored(db) == 0

    world.run(story)


# -- what was found by Django's users --------------------------------------------------------------


@everywhere
def test_a_savepoint_that_was_undone_is_gone(world: World) -> None:
    """Django: AtomicMiscTests.test_atomic_does_not_leak_savepoints_on_failure."""

    def story(db: Both) -> None:
        with db.atomic():
            insert(db, "a")
            with pytest.raises(Trouble), db.atomic():
                insert(db, "b")
                raise Trouble
            db.execute(text(f"ROLLBACK TO {last_savepoint(world)}"))

    with pytest.raises(DBAPIError, match=r"(?i)savepoint"):
        world.run(story)
    assert world.items() == []


@alone
def test_what_fails_without_a_savepoint_breaks_the_transaction(world: World) -> None:
    """It is a joined block.

    Django: AtomicMiscTests.test_mark_for_rollback_on_error_in_transaction.
    """

    def story(db: Both) -> None:
        with pytest.raises(UnexpectedRollback), db.atomic(savepoint=False) as block:
            with pytest.raises(Trouble), db.atomic(savepoint=False):
                assert not block.is_broken
                raise Trouble
            assert block.is_broken
            with pytest.raises(TransactionBroken):
                insert(db, "a")
            db.session.expunge_all()
        insert(db, "b")

    world.run(story)
    assert world.items() == ["b"]


@alone
def test_without_a_transaction_nothing_is_broken(world: World) -> None:
    """Django: AtomicMiscTests.test_mark_for_rollback_on_error_in_autocommit."""

    def story(db: Both) -> None:
        with pytest.raises(Trouble), db.atomic():
            raise Trouble
        assert db.current_transaction() is None
        insert(db, "a")

    world.run(story)
    assert world.items() == ["a"]


@pytest.mark.worlds(places=["scope", "request"])
@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_after_a_rollback_by_hand_an_error_is_forgotten(world: World, failing: Any) -> None:
    """Django: NonAutocommitTests.test_orm_query_after_error_and_rollback."""

    def story(db: Both) -> None:
        insert(db, "a")
        swallow(db, failing)
        db.session.rollback()
        assert stored(db) == 0

    world.run(story)


@pytest.mark.worlds(places=["scope", "request"])
def test_what_is_not_committed_by_hand_can_be_undone(world: World) -> None:
    """Django: NonAutocommitTests.test_orm_query_without_autocommit."""

    def story(db: Both) -> None:
        assert insert(db, "a").id is not None
        assert stored(db) == 1
        db.session.rollback()

    world.run(story)
    assert world.items() == []


# -- durable ---------------------------------------------------------------------------------------


@alone
def test_durable_blocks_are_stored_one_after_the_other(world: World) -> None:
    """Django: DurableTransactionTests.test_commit, test_sequence_of_durables."""

    def story(db: Both) -> None:
        for name in ("a", "b"):
            with db.atomic(durable=True):
                insert(db, name)
            assert world.items()[-1] == name

    world.run(story)
    assert world.items() == ["a", "b"]


@alone
def test_a_durable_block_may_have_blocks_inside(world: World) -> None:
    """Django: DurableTransactionTests.test_nested_outer_durable."""

    def story(db: Both) -> None:
        with db.atomic(durable=True):
            insert(db, "a")
            with db.atomic():
                insert(db, "b")

    world.run(story)
    assert world.items() == ["a", "b"]


@pytest.mark.worlds(places=["autocommit", "scope", "request", "block", "begin"])
@pytest.mark.parametrize("durable", [False, True])
def test_a_durable_block_is_in_no_other(world: World, *, durable: bool) -> None:
    """Django: DurableTransactionTests.test_nested_both_durable, test_nested_inner_durable."""

    def story(db: Both) -> None:
        with db.atomic(durable=durable and not db.in_transaction()):
            insert(db, "a")
            with pytest.raises(DurableError), db.atomic(durable=True):
                pytest.fail("it was let in")

    world.run(story)
    assert world.items() == ["a"]


# -- a connection of one's own ---------------------------------------------------------------------


@pytest.mark.worlds(places=["scope"])
def test_a_scope_inside_is_seen_when_it_has_ended(world: World) -> None:
    """Django: AsyncTransactionTestCase.test_new_connection_nested, test_new_connection_nested3."""

    def story(db: Both) -> None:
        outer = db.real.session
        with db.scope():
            assert db.real.session is not outer
            insert(db, "a")
            assert stored(db) == 1
            assert world.items() == []
        assert stored(db) == 1

    world.run(story)


@pytest.mark.worlds(places=["scope"])
def test_a_scope_inside_does_not_see_what_is_not_committed(world: World) -> None:
    """It reads only, as SQLite has one writer.

    Django: AsyncTransactionTestCase.test_new_connection_nested2.
    """

    def story(db: Both) -> None:
        insert(db, "a")
        assert stored(db) == 1
        with db.scope(readonly=True):
            assert stored(db) == 0

    world.run(story)
    assert world.items() == ["a"]


@pytest.mark.worlds(places=["scope", "request", "block", "begin"])
def test_a_savepoint_undoes_what_came_after_it(world: World) -> None:
    """It is a block that is left by `rollback`.

    Django: AsyncTransactionTestCase.test_asavepoint.
    """

    def story(db: Both) -> None:
        with db.savepoint():
            insert(db, "a")
            assert stored(db) == 1
            raise Rollback
        assert stored(db) == 0

    world.run(story)
