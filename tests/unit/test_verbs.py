"""`durable`, `transaction_required` and `savepoint`. Cases B of the rule book."""

from collections.abc import Callable
from typing import Any

import pytest

from dbscope import (
    DurableError,
    ScopeMissing,
    TransactionManagementError,
    TransactionRequired,
)
from tests.unit.blocks import Trouble
from tests.worlds import Both, World, both_context, insert

# -- durable, required, savepoint: cases B ---------------------------------------------------------


@pytest.mark.worlds(places=["scope"])
def test_a_durable_block_is_committed_when_left(world: World) -> None:
    """B1, B2: alone, twice in a row, and with a plain block inside."""

    def story(db: Both) -> None:
        for name in ("a", "b"):
            with db.atomic(durable=True), db.atomic():
                insert(db, name)
            assert world.items()[-1] == name
        with db.scope(atomic=False), db.atomic(durable=True):
            insert(db, "c")

    world.play(story)
    assert world.items() == ["a", "b", "c"]


@pytest.mark.parametrize("outer", [{}, {"durable": True}])
@pytest.mark.worlds(places=["scope"])
def test_a_durable_block_must_be_outermost(world: World, outer: dict[str, bool]) -> None:
    """B3: the message names the place of the outer one."""

    def story(db: Both) -> None:
        with both_context(db.real.atomic(**outer)):
            insert(db, "a")
            inner = db.atomic(durable=True)
            with pytest.raises(DurableError, match=r"test_\w+\.py:\d+"), inner:
                pytest.fail("it was let in")

    world.play(story)
    assert world.items() == ["a"]


def test_a_scope_or_request_is_a_transaction_already(world: World) -> None:
    """B3: so a durable block, or function, is refused inside of it, and it goes on."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(DurableError, match=r"worlds\.py|POST /"), db.atomic(durable=True):
            pytest.fail("it was let in")
        with pytest.raises(DurableError, match="was called inside"):
            db.decorated(db.real.durable, lambda: pytest.fail("it was called"))()

    world.run(body)
    assert world.items() == ["a"]


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_durable_function_leaves_nothing_open(world: World, *, fails: bool) -> None:
    """B8: what it has begun and not ended is rolled back, and that is an error."""

    def story(db: Both) -> None:
        def forgetful() -> None:
            db.begin()
            insert(db, "a")
            if fails:
                raise Trouble

        with db.scope(atomic=False):
            with pytest.raises(TransactionManagementError, match="left a transaction open"):
                db.decorated(db.real.durable, forgetful)()
            insert(db, "b")

    world.play(story)
    assert world.items() == ["b"]


@pytest.mark.worlds(places=["scope"])
def test_a_durable_function_may_open_its_own_block(world: World) -> None:
    """B1, B8: and returns what it returns."""

    def story(db: Both) -> None:
        def store() -> str:
            with db.atomic():
                return insert(db, "a").name

        assert db.decorated(db.real.durable, store)() == "a"

    world.play(story)
    assert world.items() == ["a"]


def required_in_all_ways(db: Both) -> list[Callable[[], Any]]:
    """Return functions that say `transaction_required`, in each way that it can be said."""

    def by_manager() -> str:
        with db.real.transaction_required():
            return "done"

    def done() -> str:
        return "done"

    bare, called = db.real.transaction_required, db.real.transaction_required()
    return [by_manager, db.decorated(bare, done), db.decorated(called, done)]


def test_a_required_transaction_is_there(world: World) -> None:
    """B5: the function is called as it is."""
    world.run(lambda db: [each() for each in required_in_all_ways(db)])


@pytest.mark.worlds(places=["scope"])
def test_a_required_transaction_is_missing(world: World) -> None:
    """B5: outside any scope, and in autocommit."""

    def story(db: Both) -> None:
        for each in required_in_all_ways(db):
            with pytest.raises(TransactionRequired):
                each()
            with db.scope(atomic=False), pytest.raises(TransactionRequired):
                each()

    world.play(story)


@pytest.mark.worlds(places=["scope"])
def test_a_transaction_of_another_database_does_not_count(world: World) -> None:
    """B6: nor does one that was opened by the outer of two scopes."""
    other = Both(type(world.database)(world.url, name="other"))

    def story(db: Both) -> None:
        with other.atomic():
            assert other.in_transaction()
            for each in required_in_all_ways(db):
                with pytest.raises(TransactionRequired):
                    each()
        with db.scope(), db.scope(atomic=False), pytest.raises(TransactionRequired):
            required_in_all_ways(db)[0]()

    world.play(story)


@pytest.mark.worlds(places=["scope"])
def test_a_savepoint_needs_a_transaction(world: World) -> None:
    """B7: and is a context manager only."""

    def story(db: Both) -> None:
        with pytest.raises((TransactionRequired, ScopeMissing)), db.savepoint():
            pytest.fail("it was let in")
        with db.scope(atomic=False), pytest.raises(TransactionRequired), db.savepoint():
            pytest.fail("it was let in")
        with pytest.raises(TypeError, match="context manager"):
            db.real.savepoint()(story)

    world.play(story)
