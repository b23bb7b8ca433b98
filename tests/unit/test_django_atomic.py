"""The cases of Django's own tests of `atomic`, in our words; docs/adoption.md says what differs.

Django runs its basic cases three times: alone, inside a transaction, and without its autocommit.
Here those are the places: autocommit, inside a scope, request or block, and a `begin()` by hand.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from dbscope import TransactionBroken, UnexpectedRollback
from tests.unit.blocks import BARE, CALLED, Trouble, atomic_of
from tests.worlds import PLACES, Both, Item, World, both_context, insert

everywhere = pytest.mark.worlds(places=["autocommit", *PLACES, "begin"])


def tell(world: World, story: Callable[[Both], Any], *stored: str) -> None:
    """Run a story; its blocks leave these names behind, at once and after the end of all."""

    def body(db: Both) -> None:
        story(db)
        assert list(db.scalars(select(Item.name).order_by(Item.id))) == list(stored)

    world.run(body)
    assert world.items() == list(stored)


# -- a function, and a single block ----------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("how", [BARE, CALLED])
def test_a_function_that_returns_is_kept(world: World, how: str) -> None:
    """Django: AtomicTests.test_decorator_syntax_commit, test_alternate_decorator_syntax_commit."""

    def story(db: Both) -> None:
        item = db.decorated(atomic_of(db, how), lambda: insert(db, "a"))()
        assert item.name == "a"

    tell(world, story, "a")


@everywhere
@pytest.mark.parametrize("how", [BARE, CALLED])
def test_a_function_that_raises_is_undone(world: World, how: str) -> None:
    """With parentheses and without.

    Django: AtomicTests.test_decorator_syntax_rollback, test_alternate_decorator_syntax_rollback.
    """

    def story(db: Both) -> None:
        def store() -> None:
            insert(db, "a")
            raise Trouble

        with pytest.raises(Trouble):
            db.decorated(atomic_of(db, how), store)()

    tell(world, story)


@everywhere
def test_a_block_that_ends_well_is_kept(world: World) -> None:
    """Django: AtomicTests.test_commit."""

    def story(db: Both) -> None:
        with db.atomic():
            insert(db, "a")

    tell(world, story, "a")


@everywhere
def test_a_block_that_raises_is_undone(world: World) -> None:
    """Django: AtomicTests.test_rollback."""

    def story(db: Both) -> None:
        with pytest.raises(Trouble), db.atomic():
            insert(db, "a")
            raise Trouble

    tell(world, story)


# -- a block in a block: two, one joined to the other, one object entered twice --------------------


def two(db: Both) -> tuple[Any, Any]:
    """Return two blocks."""
    return db.atomic(), db.atomic()


def joined(db: Both) -> tuple[Any, Any]:
    """Return a block, and one that shares its fate."""
    return db.atomic(), db.atomic(savepoint=False)


def reused(db: Both) -> tuple[Any, Any]:
    """Return one and the same object, twice."""
    block = db.real.atomic()
    return both_context(block), both_context(block)


Pair = Callable[[Both], tuple[Any, Any]]


@everywhere
@pytest.mark.parametrize("pair", [two, joined, reused])
def test_when_both_end_well_both_are_kept(world: World, pair: Pair) -> None:
    """Two blocks, joined ones, one object twice.

    Django: AtomicTests.test_nested_commit_commit, test_merged_commit_commit,
    test_reuse_commit_commit.
    """

    def story(db: Both) -> None:
        outer, inner = pair(db)
        with outer:
            insert(db, "outer")
            with inner:
                insert(db, "inner")

    tell(world, story, "outer", "inner")


@everywhere
@pytest.mark.parametrize("pair", [two, reused])
def test_an_inner_failure_is_undone_alone(world: World, pair: Pair) -> None:
    """Django: AtomicTests.test_nested_commit_rollback, test_reuse_commit_rollback."""

    def story(db: Both) -> None:
        outer, inner = pair(db)
        with outer:
            insert(db, "outer")
            with pytest.raises(Trouble), inner:
                insert(db, "inner")
                raise Trouble

    tell(world, story, "outer")


@everywhere
def test_an_inner_failure_that_is_joined_undoes_both(world: World) -> None:
    """Django: AtomicTests.test_merged_commit_rollback; here it is not silent."""

    def story(db: Both) -> None:
        with pytest.raises(UnexpectedRollback) as caught, db.atomic():
            insert(db, "outer")
            with pytest.raises(Trouble), db.atomic(savepoint=False):
                insert(db, "inner")
                raise Trouble
        assert isinstance(caught.value.__cause__, Trouble)

    tell(world, story)


@everywhere
@pytest.mark.parametrize("pair", [two, joined, reused])
def test_an_outer_failure_undoes_both(world: World, pair: Pair) -> None:
    """Two blocks, joined ones, one object twice.

    Django: AtomicTests.test_nested_rollback_commit, test_merged_rollback_commit,
    test_reuse_rollback_commit.
    """

    def story(db: Both) -> None:
        outer, inner = pair(db)
        with pytest.raises(Trouble), outer:
            insert(db, "outer")
            with inner:
                insert(db, "inner")
            raise Trouble

    tell(world, story)


@everywhere
@pytest.mark.parametrize("pair", [two, joined, reused])
def test_when_both_fail_both_are_undone(world: World, pair: Pair) -> None:
    """Two blocks, joined ones, one object twice.

    Django: AtomicTests.test_nested_rollback_rollback, test_merged_rollback_rollback,
    test_reuse_rollback_rollback.
    """

    def story(db: Both) -> None:
        outer, inner = pair(db)
        with pytest.raises(Trouble, match="outer"), outer:
            insert(db, "outer")
            with pytest.raises(Trouble, match="inner"), inner:
                insert(db, "inner")
                raise Trouble("inner")
            raise Trouble("outer")

    tell(world, story)


# -- the rollback that is asked for, and the one that is prevented ---------------------------------


@everywhere
def test_a_rollback_can_be_asked_for(world: World) -> None:
    """What it calls get_rollback() is told by the block.

    Django: AtomicTests.test_force_rollback.
    """

    def story(db: Both) -> None:
        with db.atomic() as block:
            insert(db, "a")
            assert not block.rollback_only
            db.set_rollback(True)
            assert block.rollback_only

    tell(world, story)


@everywhere
def test_a_rollback_can_be_prevented(world: World) -> None:
    """Django: AtomicTests.test_prevent_rollback; a savepoint by hand is SQL, not a number."""

    def story(db: Both) -> None:
        with db.atomic() as block:
            insert(db, "a")
            db.execute(text("SAVEPOINT mine"))
            with pytest.raises(Exception, match="no_such_column"), db.atomic(savepoint=False):
                db.execute(text("SELECT no_such_column FROM item"))
            assert block.is_broken
            db.set_rollback(False)
            db.execute(text("ROLLBACK TO SAVEPOINT mine"))

    tell(world, story, "a")


@everywhere
def test_a_savepoint_that_cannot_be_released_is_an_error(world: World) -> None:
    """Django: AtomicTests.test_failure_on_exit_transaction; then nothing is asked and kept."""

    def story(db: Both) -> None:
        with pytest.raises(UnexpectedRollback), db.atomic():
            insert(db, "outer")
            with pytest.raises(DBAPIError, match=r"(?i)savepoint"), db.atomic():
                insert(db, "inner")
                db.execute(text(f"RELEASE {last_savepoint(world)}"))
            with pytest.raises(TransactionBroken):
                db.scalar(select(1))

    with suppress(UnexpectedRollback):  # what is around it is lost with it
        world.run(story)
    assert world.items() == []


def last_savepoint(world: World) -> str:
    """Return what was sent to make the innermost savepoint: SAVEPOINT and its name."""
    return [sent for sent in world.statements if sent.startswith("SAVEPOINT")][-1]


# -- several that are joined -----------------------------------------------------------------------


def count(db: Both) -> int:
    """Count what is there, though the transaction is to be rolled back."""
    db.set_rollback(False)
    found = len(list(db.scalars(select(Item.id))))
    db.set_rollback(True)
    return found


def fail_joined(db: Both) -> None:
    """Fail in a block that is joined to the one around it."""
    with pytest.raises(Trouble), db.atomic(savepoint=False):
        insert(db, "third")
        raise Trouble
    assert db.current_transaction().is_broken


@everywhere
def test_a_joined_failure_reaches_the_outermost(world: World) -> None:
    """Django: AtomicMergeTests.test_merged_outer_rollback."""

    def story(db: Both) -> None:
        with db.atomic() as block:
            insert(db, "first")
            with db.atomic(savepoint=False):
                insert(db, "second")
                fail_joined(db)
                assert count(db) == 3
            assert block.rollback_only
            assert count(db) == 3

    tell(world, story)


@everywhere
def test_a_joined_failure_reaches_the_next_savepoint(world: World) -> None:
    """Django: AtomicMergeTests.test_merged_inner_savepoint_rollback."""

    def story(db: Both) -> None:
        with db.atomic():
            insert(db, "first")
            with db.atomic():
                insert(db, "second")
                fail_joined(db)
                assert count(db) == 3
            assert len(list(db.scalars(select(Item.id)))) == 1

    tell(world, story, "first")
