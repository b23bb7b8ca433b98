"""Atomic blocks: entering, leaving, nesting. Cases A of the rule book."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from dbscope import Rollback, TransactionBroken, UnexpectedRollback
from tests.worlds import Both, World, insert


class Trouble(Exception):
    """Something that the application raises."""


def test_a_scope_that_ends_well_is_committed(world: World) -> None:
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
