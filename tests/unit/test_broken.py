"""A failed statement, the state that people see, and misuse. Cases A of the rule book."""

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.util import await_only

from dbscope import (
    BlocksOutOfOrder,
    ConcurrentUse,
    DatabaseUnavailable,
    DBScopeError,
    TransactionBroken,
    UnexpectedRollback,
)
from dbscope.unit.current import current
from tests.unit.blocks import (
    Trouble,
    swallow,
    twice,
    twice_by_flush,
)
from tests.worlds import SYNC, Both, Item, World, insert, waiting

# -- a failed statement ----------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_nothing_is_sent_in_a_broken_transaction(world: World, failing: Any) -> None:
    """A13: the error of the query that follows names the one that was swallowed."""
    world.look.execute("INSERT INTO item (id, name) VALUES (9, 'there before')")

    def body(db: Both) -> None:
        insert(db, "a")
        error = swallow(db, failing)
        sent = list(world.statements)
        for query in (lambda: db.execute(text("DELETE FROM item")), lambda: insert(db, "b")):
            with pytest.raises(TransactionBroken) as caught:
                query()
            assert caught.value.__cause__ is error
        db.session.expunge_all()
        assert [s for s in world.statements if s not in sent and s != "ROLLBACK"] == []

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == ["there before"]


@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_a_swallowed_error_is_no_success(world: World, failing: Any) -> None:
    """A13: PostgreSQL turns this COMMIT into a ROLLBACK, SQLite stores the half; here it fails."""

    def body(db: Both) -> None:
        insert(db, "a")
        swallow(db, failing)

    with pytest.raises(UnexpectedRollback) as caught:
        world.run(body)
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert world.items() == []


@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_in_a_block_of_its_own_a_statement_may_fail(world: World, failing: Any) -> None:
    """A4, A13: that is what blocks are for."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(IntegrityError), db.atomic():
            failing(db)
        insert(db, "b")

    world.run(body)
    assert world.items() == ["a", "b"]


@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_a_swallowed_error_in_a_nested_block_loses_only_that(world: World, failing: Any) -> None:
    """A13: its caller learns it, and may go on."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(UnexpectedRollback), db.atomic():
            insert(db, "b")
            swallow(db, failing)
        insert(db, "c")

    world.run(body)
    assert world.items() == ["a", "c"]


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_a_failure_breaks_a_transaction_but_not_autocommit(world: World, failing: Any) -> None:
    """A17: where each statement is its own transaction, only that one is lost."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            insert(db, "a")
            swallow(db, failing)
            db.session.expunge_all()
            insert(db, "b")
            with pytest.raises(UnexpectedRollback), db.atomic():
                swallow(db, failing)

    world.play(story)
    assert world.items() == ["a", "b"]


def hang_up(db: Both) -> None:
    """Close the driver's connection, behind everybody's back."""
    connection = db.session.connection()
    plain = getattr(connection, "sync_connection", connection)
    waiting(plain.connection.driver_connection.close)()


def test_a_lost_connection_ends_the_block_and_only_that(world: World) -> None:
    """A14: the query fails, the block is rolled back, the next unit has a fresh connection."""

    def closed(db: Both) -> None:
        insert(db, "a")
        hang_up(db)
        with pytest.raises((DBScopeError, DBAPIError)):
            insert(db, "b")
        raise Trouble

    def story(db: Both) -> None:
        with pytest.raises(Trouble):
            world.inside(db, closed)
        world.inside(db, lambda db: insert(db, "c"))

    world.play(story)
    assert world.items() == ["c"]


def test_a_lost_connection_is_lost_for_the_blocks_around(world: World) -> None:
    """A14: there is no transaction left that could go on, so nothing later is stored alone."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises((DBScopeError, DBAPIError)), db.atomic():
            hang_up(db)
            insert(db, "b")
        with pytest.raises(TransactionBroken):
            insert(db, "c")
        db.session.expunge_all()

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == []


def test_a_connection_lost_where_a_savepoint_was_left_out_is_lost_too(world: World) -> None:
    """A14, F1: the savepoint around it is not started again, and nothing later is stored alone."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(UnexpectedRollback), db.atomic():
            with pytest.raises((DBScopeError, DBAPIError)), db.atomic():
                hang_up(db)
                insert(db, "b")
            with pytest.raises(TransactionBroken):
                insert(db, "c")
            db.session.expunge_all()
        with pytest.raises(TransactionBroken):
            insert(db, "d")
        db.session.expunge_all()

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == []


def test_a_connection_lost_before_commit_is_no_unknown_outcome(world: World) -> None:
    """G5: the last flush did not get through, so COMMIT was never sent."""
    log: list[str] = []

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_rollback(lambda: log.append("rollback"))
        hang_up(db)
        db.session.add(Item(name="b"))

    with pytest.raises(DatabaseUnavailable) if world.place != "request" else nullcontext():
        world.run(body)
    assert (log, world.items()) == (["rollback"], [])
    assert world.database.stats()["outcomes_unknown"] == 0


def test_an_error_in_the_last_flush_leaves_as_it_is(world: World) -> None:
    """G1: whatever a listener raises before COMMIT, the work is rolled back and that is known."""

    def refuse(*args: Any) -> None:
        raise Trouble

    def body(db: Both) -> None:
        insert(db, "a")
        session = db.real.session
        event.listen(getattr(session, "sync_session", session), "before_flush", refuse)
        db.session.add(Item(name="b"))

    with pytest.raises(Trouble):
        world.run(body)
    assert world.items() == []


# -- the state, for people -------------------------------------------------------------------------


def test_a_block_tells_where_it_is_and_how_it_ended(world: World) -> None:
    """Django's `in_transaction`, Rails' `current_transaction`."""

    def body(db: Both) -> None:
        assert db.in_transaction()
        around = db.current_transaction()
        with db.atomic() as block:
            assert db.current_transaction() is block
            assert (block.depth, block.outcome) == (around.depth + 1, None)
            assert block.id != around.id
            assert "open" in repr(block)
        assert block.outcome == "committed"
        with pytest.raises(Trouble), db.atomic() as block:
            raise Trouble
        assert block.outcome == "rolled back"
        assert "rolled back" in repr(block)
        assert db.current_transaction() is around

    world.run(body)


@pytest.mark.worlds(places=["scope"])
def test_a_transaction_is_where_one_was_opened(world: World) -> None:
    """Not outside any scope, not in autocommit, but in a block there and in every other scope."""

    def story(db: Both) -> None:
        assert not db.in_transaction()
        with db.atomic():
            assert db.in_transaction()
        with db.scope(atomic=False):
            assert not db.in_transaction()
            with db.atomic():
                assert db.in_transaction()
            assert not db.in_transaction()
        with db.scope():
            assert db.in_transaction()
        assert db.current_transaction() is None

    world.play(story)


# -- misuse ----------------------------------------------------------------------------------------


def enter(block: Any) -> Any:
    """Enter a block without a `with`."""
    return await_only(block.__aenter__()) if hasattr(block, "__aenter__") else block.__enter__()


def leave(block: Any) -> Any:
    """Leave it normally."""
    if hasattr(block, "__aexit__"):
        return await_only(block.__aexit__(None, None, None))
    return block.__exit__(None, None, None)


def test_blocks_are_left_in_the_reverse_order(world: World) -> None:
    """Leaving the outer one first is refused, and nothing of that transaction is stored."""

    def body(db: Both) -> None:
        outer, inner = db.real.atomic(), db.real.atomic()
        enter(outer)
        insert(db, "a")
        enter(inner)
        insert(db, "b")
        with pytest.raises(BlocksOutOfOrder):
            leave(outer)
        leave(inner)

    with pytest.raises((BlocksOutOfOrder, UnexpectedRollback)):
        world.run(body)
    assert world.items() == []


@pytest.mark.worlds(places=["scope", "request"])
def test_a_scope_does_not_end_inside_a_block(world: World) -> None:
    """The block's work is rolled back, and the message names the place it was opened at."""

    def body(db: Both) -> None:
        enter(db.real.atomic())
        insert(db, "a")

    with pytest.raises(BlocksOutOfOrder, match=r"test_broken\.py"):
        world.run(body)
    assert world.items() == []


@pytest.mark.worlds(places=["scope"], drivers=lambda driver: driver not in SYNC)
def test_two_tasks_do_not_open_blocks_in_one_scope_at_once(world: World) -> None:
    """G13: the second one gets ConcurrentUse before anything is sent, and the first goes on."""

    def story(db: Both) -> None:
        def slow() -> None:
            with db.atomic():
                db.execute(text(world.sleep(0.2, SLOW_SQLITE)))
                insert(db, "a")

        def hasty() -> None:
            scope = current.get()
            while not any(unit.turn.is_taken() for unit in scope.units.values()):
                await_only(asyncio.sleep(0.01))
            with pytest.raises(ConcurrentUse), db.atomic():
                pytest.fail("it was let in")

        with db.scope():
            world.at_once(slow, hasty)

    world.play(story)
    assert world.items() == ["a"]


SLOW_SQLITE = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000)"
    " SELECT count(*) FROM n"
)
