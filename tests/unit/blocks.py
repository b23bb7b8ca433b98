"""What the tests of blocks share."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import insert as core_insert
from sqlalchemy.exc import IntegrityError

from tests.worlds import Both, Item, insert

BARE, CALLED = "bare", "with parentheses"


CELLS = [(False, False), (False, True), (True, False), (True, True)]  # outer fails, inner fails


class Trouble(Exception):
    """Something that the application raises."""


class Halt(BaseException):
    """What a program is ended by: no `except Exception` sees it."""


def atomic_of(db: Both, how: str) -> Any:
    """Return the decorator, written in one of the two ways."""
    return db.real.atomic if how == BARE else db.real.atomic()


def nest(db: Both, outer: Any, inner: Any, number: int) -> None:
    """Store "outer", then "inner" in a block inside, whose error is swallowed."""
    outer_fails, inner_fails = CELLS[number]
    with outer:
        insert(db, f"outer {number}")
        with suppress(Trouble), inner:
            insert(db, f"inner {number}")
            if inner_fails:
                raise Trouble
        if outer_fails:
            raise Trouble


def swallow(db: Both, failing: Callable[[Both], Any]) -> IntegrityError:
    """Let a statement fail, and go on as if nothing had happened."""
    with pytest.raises(IntegrityError) as caught:
        failing(db)
    return caught.value


def twice(db: Both) -> None:
    """Store a name that is there already, by a statement."""
    db.execute(core_insert(Item).values(name="a"))


def twice_by_flush(db: Both) -> None:
    """Store a name that is there already, by a flush."""
    insert(db, "a")
