"""`propagation=`: Spring's table. Cases B9 to B12 of the rule book."""

from typing import Any

import pytest

from dbscope import (
    ConfigurationError,
    DurableError,
    PoolTimeout,
    Rollback,
    ScopeMissing,
    TransactionManagementError,
    TransactionRequired,
)
from tests.worlds import Both, Item, World, both_context, insert, is_postgresql, is_sqlite

pytestmark = pytest.mark.worlds(places=["scope"])

# propagation: is there a transaction inside, if there is none around; and if there is one
TABLE: dict[str, tuple[Any, Any]] = {
    "required": ("new", "same"),
    "nested": ("new", "savepoint"),
    "mandatory": (TransactionRequired, "same"),
    "requires_new": ("new", "new"),
    "not_supported": (None, None),
    "supports": (None, "same"),
    "never": (None, DurableError),
}


class Trouble(Exception):
    """Something that the application raises."""


def block(db: Both, propagation: str) -> Any:
    """Open a block with this propagation."""
    return both_context(db.real.atomic(propagation=propagation))


def kind(db: Both, around: Any) -> Any:
    """Say what the block inside is, compared with the one around."""
    inside = db.current_transaction()
    if inside is None:
        return None
    if around is not None and inside.physical is around:
        return "same"
    return "savepoint" if around is not None and inside.parent is around else "new"


@pytest.mark.parametrize("propagation", TABLE)
@pytest.mark.parametrize("outer", ["none", "autocommit", "transaction"])
def test_the_table_of_spring(world: World, propagation: str, outer: str) -> None:
    """B9, B10: with and without a transaction around, and outside of any scope."""
    expected = TABLE[propagation][outer == "transaction"]

    def inside(db: Both, around: Any) -> None:
        if isinstance(expected, type):
            with pytest.raises(expected), block(db, propagation):
                pytest.fail("it was let in")
            return
        with block(db, propagation):
            assert kind(db, around) == expected

    def story(db: Both) -> None:
        if outer == "none":
            if propagation != "mandatory":
                inside(db, None)
        elif outer == "autocommit":
            with db.scope(atomic=False):
                inside(db, None)
        else:
            with db.scope(), db.atomic() as around:
                inside(db, around)

    world.play(story)


@pytest.mark.parametrize("propagation", ["required", "requires_new", "not_supported", "supports"])
def test_it_works_as_a_decorator_too(world: World, propagation: str) -> None:
    """What it decorates is stored."""

    def story(db: Both) -> None:
        decorated = db.decorated(
            db.real.atomic(propagation=propagation), lambda: insert(db, propagation) and None
        )
        decorated()
        with db.scope(atomic=False):
            decorated_twice = db.decorated(
                db.real.atomic(propagation=propagation), lambda: insert(db, "again") and None
            )
            decorated_twice()

    world.play(story)
    assert world.items() == [propagation, "again"]


def test_an_object_that_two_share_knows_whose_scope_it_opened(world: World) -> None:
    """Decision 4: one is in a scope already, the other has one opened for it and leaves first."""

    def story(db: Both) -> None:
        shared = db.real.atomic(propagation="supports")
        both_in, one_out = world.barrier(2), world.barrier(2)

        def without_scope() -> None:
            with both_context(shared):
                both_in()
            with pytest.raises(ScopeMissing):
                db.session.get(Item, 1)
            one_out()

        def within_one() -> None:
            with db.scope(atomic=False):
                with both_context(shared):
                    both_in()
                    one_out()
                insert(db, "a")

        world.at_once(without_scope, within_one)

    world.play(story)
    assert world.items() == ["a"]


def test_a_new_transaction_has_a_fate_of_its_own(world: World) -> None:
    """B12: the inner one is committed though the outer is rolled back, and the reverse."""

    def story(db: Both) -> None:
        with pytest.raises(Trouble), db.scope(atomic=False), db.atomic():
            with block(db, "requires_new"):
                insert(db, "inner")
            assert world.items() == ["inner"]
            insert(db, "outer")
            raise Trouble
        with db.scope(atomic=False), db.atomic():
            with block(db, "requires_new"):
                insert(db, "not this")
                raise Rollback
            insert(db, "outer")

    world.play(story)
    assert world.items() == ["inner", "outer"]


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
def test_sqlite_cannot_have_two_writers(world: World) -> None:
    """J7: refused at once, with what to do; the outer transaction goes on."""

    def story(db: Both) -> None:
        with db.scope(), db.atomic():
            insert(db, "outer")
            refused = pytest.raises(TransactionManagementError, match="one writer at a time")
            with refused, block(db, "requires_new"):
                pytest.fail("it was let in")
            insert(db, "again")

    world.play(story)
    assert world.items() == ["outer", "again"]


def test_what_suspends_the_transaction_cannot_undo_it(world: World) -> None:
    """B11: an error inside is not one of the transaction around."""

    def story(db: Both) -> None:
        with db.scope(), db.atomic():
            with pytest.raises(Trouble), block(db, "not_supported"):
                assert not db.in_transaction()
                raise Trouble
            assert db.in_transaction()
            insert(db, "outer")

    world.play(story)
    assert world.items() == ["outer"]


def test_a_failure_in_what_joins_is_one_of_the_transaction(world: World) -> None:
    """`supports`, where there is a transaction, does nothing: the error is the outer block's."""

    def story(db: Both) -> None:
        with pytest.raises(Trouble), db.scope(), db.atomic():
            insert(db, "a")
            with block(db, "supports"):
                raise Trouble

    world.play(story)
    assert world.items() == []


@pytest.mark.parametrize("asked", [{"readonly": True}, {"isolation": "SERIALIZABLE"}])
def test_without_a_transaction_there_is_nothing_to_be_so(world: World, asked: Any) -> None:
    """Attributes of a block that begins none are refused, rather than ignored."""
    with pytest.raises(ConfigurationError, match="no other arguments"):
        world.database.atomic(propagation="never", **asked)


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_a_pool_of_one_cannot_give_a_second_connection(world: World) -> None:
    """It is said at once, and not by a pool timeout; before the first use there is no need."""

    def story(db: Both) -> None:
        with db.scope(), db.atomic():
            with block(db, "requires_new"):
                insert(db, "inner")
            insert(db, "outer")
            refused = pytest.raises(TransactionManagementError, match="Raise `pool_size`")
            with refused, block(db, "requires_new"):
                pytest.fail("it was let in")

    remake(world, pool_size=1, max_overflow=0)
    world.play(story)
    assert world.items() == ["inner", "outer"]


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_those_who_hold_a_connection_never_all_wait_for_another(world: World) -> None:
    """Of two with a pool of two, one waits, and the other is refused instead of a deadlock."""

    def story(db: Both) -> None:
        both_hold = world.barrier(2)

        def one(name: str) -> str:
            try:
                with db.scope(), db.atomic():
                    insert(db, name)
                    both_hold()
                    with block(db, "requires_new"):
                        insert(db, f"inner of {name}")
            except PoolTimeout as error:
                return str(error)
            return "stored"

        told = world.at_once(lambda: one("a"), lambda: one("b"))
        assert "stored" in told
        assert sum("would wait for ever" in each for each in told) == 1

    remake(world, pool_size=2, max_overflow=0, pool_timeout=40)
    world.play(story)
    assert len(world.items()) == 2


def remake(world: World, **options: Any) -> None:
    """Make the database of a world with another pool."""
    world.database = type(world.database)(world.url, engine_options=options)
