"""Atomic blocks: entering, leaving, nesting. Cases A of the rule book."""

from contextlib import nullcontext, suppress
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.util import greenlet_spawn

from dbscope import (
    AsyncDatabase,
    Database,
    Rollback,
    TransactionBroken,
    UnexpectedRollback,
)
from tests.unit.blocks import BARE, CALLED, CELLS, Halt, Trouble, atomic_of, nest, swallow, twice
from tests.worlds import Both, Item, World, both_context, insert, waiting

# -- a single block --------------------------------------------------------------------------------


def test_what_ends_well_is_committed(world: World) -> None:
    """A1, A3: what was done is visible to another connection after the end."""
    world.run(lambda db: insert(db, "a"))
    assert world.items() == ["a"]


def test_an_exception_rolls_back_and_leaves_as_it_is(world: World) -> None:
    """A2, A3: no row, and the same exception object."""
    trouble = Trouble()

    def body(db: Both) -> None:
        insert(db, "a")
        raise trouble

    with pytest.raises(Trouble) as caught:
        world.run(body)
    assert caught.value is trouble
    assert world.items() == []


def test_what_ends_a_program_rolls_back_too(world: World) -> None:
    """A2, G15: KeyboardInterrupt and its kin are no `Exception`, and still no success."""

    def body(db: Both) -> None:
        insert(db, "a")
        raise Halt

    with pytest.raises(Halt):
        world.run(body)
    assert world.items() == []


@pytest.mark.parametrize("how", [BARE, CALLED])
def test_a_decorated_function_is_a_block(world: World, how: str) -> None:
    """A1: committed, and the return value is passed through."""

    def store(name: str) -> str:
        insert(db_of[0], name)
        return name.upper()

    db_of: list[Both] = []

    def body(db: Both) -> Any:
        db_of.append(db)
        return db.decorated(atomic_of(db, how), store)("a")

    assert world.run(body) == "A"
    assert world.items() == ["a"]


@pytest.mark.parametrize("how", [BARE, CALLED])
def test_a_decorated_function_that_raises_leaves_nothing(world: World, how: str) -> None:
    """A2: no row of its own, those around it stay; the same exception object."""
    trouble = Trouble()

    def body(db: Both) -> None:
        def store() -> None:
            insert(db, "inner")
            raise trouble

        insert(db, "outer")
        with pytest.raises(Trouble) as caught:
            db.decorated(atomic_of(db, how), store)()
        assert caught.value is trouble

    world.run(body)
    assert world.items() == ["outer"]


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("fails", [False, True])
def test_outside_any_scope_a_block_opens_its_own(world: World, *, fails: bool) -> None:
    """A1, A2: a decorated function works anywhere; when it has returned, its work is stored."""

    def story(db: Both) -> None:
        def store() -> None:
            insert(db, "a")
            if fails:
                raise Trouble

        function = db.decorated(db.real.atomic, store)
        if fails:
            with pytest.raises(Trouble):
                function()
        else:
            function()
        assert world.items() == ([] if fails else ["a"])

    world.play(story)


@pytest.mark.worlds(places=["scope"])
def test_a_scope_decorates_too(world: World) -> None:
    """Each call has a scope of its own, so it can call itself."""
    sessions = set()

    def story(db: Both) -> None:
        def store(depth: int) -> int:
            sessions.add(id(db.real.session))
            return store_in_scope(depth - 1) + 1 if depth else 0

        store_in_scope = db.decorated(db.real.scope, store)
        assert store_in_scope(2) == 2

    world.play(story)
    assert len(sessions) == 3


def test_return_break_and_continue_commit(world: World) -> None:
    """A21: only an exception rolls back."""

    def by_return(db: Both) -> Item:
        with db.atomic():
            return insert(db, "return")

    def body(db: Both) -> None:
        by_return(db)
        for name in ("continue", "break"):
            with db.atomic():
                insert(db, name)
                if name == "break":
                    break
                continue

    world.run(body)
    assert world.items() == ["return", "continue", "break"]


def test_a_callable_object_can_be_decorated(world: World) -> None:
    """A15. Django: AtomicMiscTests.test_wrap_callable_instance."""

    class Plain:
        def __init__(self, db: Both) -> None:
            self.db = db

        def __call__(self, name: str) -> str:
            return insert(self.db, name).name

    class Async(Plain):
        async def __call__(self, name: str) -> str:
            return await greenlet_spawn(super().__call__, name)

    def body(db: Both) -> None:
        subject = Async(db) if db.is_async else Plain(db)
        assert waiting(db.real.atomic(subject))("a") == "a"

    world.run(body)
    assert world.items() == ["a"]


# -- what cannot be decorated ----------------------------------------------------------------------


def plain() -> None: ...


async def coroutine() -> None: ...


def generator() -> Any:
    yield


async def async_generator() -> Any:
    yield


@pytest.mark.parametrize("how", ["atomic", "atomic()", "scope", "scope()"])
@pytest.mark.parametrize("kind", [Database, AsyncDatabase])
@pytest.mark.parametrize("function", [generator, async_generator, "a name"])
def test_a_generator_cannot_be_decorated(kind: Any, how: str, function: Any) -> None:
    """A24: Django silently wraps only its creation."""
    db = kind("sqlite://")
    decorator = getattr(db, how.removesuffix("()"))
    with pytest.raises(TypeError, match="decorate"):
        (decorator() if how.endswith("()") else decorator)(function)


@pytest.mark.parametrize("how", ["atomic", "scope"])
def test_each_kind_decorates_its_own_kind_of_function(how: str) -> None:
    """The message names the companion that could."""
    with pytest.raises(TypeError, match=rf"db\.sync\.{how}"):
        getattr(AsyncDatabase("sqlite://"), how)(plain)
    with pytest.raises(TypeError, match=rf"db\.async_\.{how}"):
        getattr(Database("sqlite://"), how)(coroutine)


# -- nesting ---------------------------------------------------------------------------------------


def test_a_nested_block_is_undone_alone(world: World) -> None:
    """A4: an inner failure takes only its own work, an outer one all."""

    def body(db: Both) -> None:
        for number in range(len(CELLS)):
            with suppress(Trouble):
                nest(db, db.atomic(), db.atomic(), number)

    world.run(body)
    assert world.items() == ["outer 0", "inner 0", "outer 1"]


def test_one_block_object_can_be_entered_again_inside_itself(world: World) -> None:
    """A6: nothing of an entered block is kept on the object."""

    def body(db: Both) -> None:
        block = db.real.atomic()
        for number in range(len(CELLS)):
            outer, inner = both_context(block), both_context(block)
            with suppress(Trouble):
                nest(db, outer, inner, number)

    world.run(body)
    assert world.items() == ["outer 0", "inner 0", "outer 1"]


def test_a_joined_block_shares_the_fate_of_the_one_around(world: World) -> None:
    """A5: where Django rolls back silently, a swallowed failure is UnexpectedRollback."""

    def body(db: Both) -> None:
        for number, (outer_fails, inner_fails) in enumerate(CELLS):
            expected: Any = Trouble if outer_fails else UnexpectedRollback if inner_fails else None
            with pytest.raises(expected) if expected else nullcontext() as caught:
                joined = db.atomic(savepoint=False)
                nest(db, db.atomic(), joined, number)
            if expected is UnexpectedRollback:
                assert isinstance(caught.value.__cause__, Trouble)

    world.run(body)
    assert world.items() == ["outer 0", "inner 0"]


def test_a_decorated_function_can_call_itself(world: World) -> None:
    """A6: each call is a block of its own; the innermost fails alone."""

    def body(db: Both) -> None:
        def store(depth: int) -> None:
            insert(db, str(depth))
            if depth == 0:
                raise Trouble
            try:
                decorated(depth - 1)
            except Trouble:
                assert depth == 1

        decorated = db.decorated(db.real.atomic, store)
        decorated(2)

    world.run(body)
    assert world.items() == ["2", "1"]


@pytest.mark.worlds(places=["scope"])
def test_two_calls_of_one_decorated_function_run_at_once(world: World) -> None:
    """A6: one of them fails, and the other one's work is stored."""

    def story(db: Both) -> None:
        together = world.barrier(2)

        def store(name: str) -> None:
            together()
            insert(db, name)
            if name == "bad":
                raise Trouble

        decorated = db.decorated(db.real.atomic, store)

        def bad() -> None:
            with pytest.raises(Trouble):
                decorated("bad")

        world.at_once(lambda: decorated("good"), bad)

    world.play(story)
    assert world.items() == ["good"]


def test_a_failure_is_seen_at_every_joined_level(world: World) -> None:
    """A10: the nearest savepoint or transaction rolls everything back."""
    seen = []

    def body(db: Both) -> None:
        insert(db, "before")
        with pytest.raises(UnexpectedRollback), db.atomic():
            insert(db, "a")
            with db.atomic(savepoint=False):
                insert(db, "b")
                with pytest.raises(Trouble), db.atomic(savepoint=False):
                    insert(db, "c")
                    raise Trouble
                seen.append(db.current_transaction().is_broken)
            seen.append(db.current_transaction().is_broken)

    world.run(body)
    assert seen == [True, True]
    assert world.items() == ["before"]


def test_a_joined_failure_stops_at_the_savepoint_around_it(world: World) -> None:
    """A10: what is outside of that savepoint is kept."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(Trouble), db.atomic():
            insert(db, "b")
            with db.atomic(savepoint=False):
                insert(db, "c")
                raise Trouble
        assert not db.current_transaction().is_broken

    world.run(body)
    assert world.items() == ["a"]


def test_in_a_broken_transaction_a_nested_block_joins(world: World) -> None:
    """A10, A13: a savepoint there would hide the failure."""

    def body(db: Both) -> None:
        insert(db, "a")
        swallow(db, twice)
        with pytest.raises(TransactionBroken), db.atomic():
            db.scalar(select(1))

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == []


# -- rolling back on purpose -----------------------------------------------------------------------


def test_set_rollback_is_silent(world: World) -> None:
    """A7: no row, no exception."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.set_rollback(True)

    world.run(body)
    assert world.items() == []


def test_set_rollback_is_for_one_block(world: World) -> None:
    """A7: what is around it is kept."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic() as block:
            insert(db, "b")
            block.set_rollback(True)

    world.run(body)
    assert world.items() == ["a"]


def test_a_failure_undone_by_hand_can_be_forgotten(world: World) -> None:
    """A8: a savepoint of one's own, and `set_rollback(False)`."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.execute(text("SAVEPOINT mine"))
        with pytest.raises(IntegrityError), db.atomic(savepoint=False):
            twice(db)
        assert db.current_transaction().is_broken
        db.set_rollback(False)
        db.execute(text("ROLLBACK TO SAVEPOINT mine"))
        insert(db, "b")

    world.run(body)
    assert world.items() == ["a", "b"]


def test_rollback_in_a_joined_block_undoes_the_whole(world: World) -> None:
    """A22: without the trap of Rails, where both rows are stored."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            insert(db, "b")
            with db.atomic(savepoint=False):
                insert(db, "c")
                raise Rollback
        insert(db, "d")

    world.run(body)
    assert world.items() == ["a", "d"]


def test_rollback_in_a_joined_block_cannot_be_swallowed_halfway(world: World) -> None:
    """A22: whoever catches it in between changes nothing; it is still meant, so it is silent."""

    def body(db: Both) -> None:
        with db.atomic():
            insert(db, "a")
            with pytest.raises(Rollback), db.atomic(savepoint=False):
                raise Rollback

    world.run(body)
    assert world.items() == []


def test_rollback_undoes_the_block_it_is_raised_in(world: World) -> None:
    """A23: only the innermost of many savepoints is gone, and nothing is raised."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            insert(db, "b")
            with db.atomic():
                insert(db, "c")
                with db.savepoint():
                    insert(db, "d")
                    raise db.Rollback
            insert(db, "e")

    world.run(body)
    assert world.items() == ["a", "b", "c", "e"]


@pytest.mark.worlds(places=["scope", "block"])
def test_rollback_leaves_a_scope_quietly(world: World) -> None:
    """A23: a scope is a block too."""

    def body(db: Both) -> None:
        insert(db, "a")
        raise Rollback

    world.run(body)
    assert world.items() == []
