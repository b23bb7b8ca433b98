"""An endpoint that returns what a query has given, and not its rows, is told so."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from tests.scopes.stage import ALONE, INSIDE, Stage, only
from tests.worlds import Item, insert

pytestmark = pytest.mark.anyio

ITEMS = select(Item.id, Item.name)
UNREAD: dict[str, tuple[Callable[[Any], object], str]] = {
    "result": (lambda db: db.execute(ITEMS), "a result that nobody has read"),
    "scalars": (lambda db: db.scalars(select(Item)), "a result that nobody has read"),
    "mappings": (lambda db: db.execute(ITEMS).mappings(), "a result that nobody has read"),
    "in a dict": (lambda db: {"items": db.scalars(select(Item))}, "a result that nobody has read"),
    "row": (lambda db: db.execute(ITEMS).first(), "a row, which is no JSON"),
    "rows": (lambda db: db.execute(ITEMS).all(), "a row, which is no JSON"),
    "statement": (lambda db: ITEMS, "a statement that nobody has run"),
}


@only(places=(ALONE, INSIDE))
@pytest.mark.parametrize("what", UNREAD)
async def test_what_is_no_rows_is_told_with_the_remedy(stage: Stage, what: str) -> None:
    """FastAPI would answer 200 with the insides of the object, or fail with them."""
    returned, told = UNREAD[what]

    def work() -> object:
        insert(stage.db, "a")
        return returned(stage.db)

    stage.route(work, response_model=None)
    seen = await stage.ask()
    assert isinstance(seen.answer.error, TypeError)
    assert str(seen.answer.error).startswith(f"The endpoint of POST / has returned {told}")
    assert ": return " in str(seen.answer.error)
    assert (seen.status, seen.items) == (500, [])


READ: dict[str, Callable[[Any], object]] = {
    "scalars": lambda db: db.scalars(select(Item.name)).all(),
    "mappings": lambda db: db.execute(select(Item.name)).mappings().all(),
    "object": lambda db: db.scalars(select(Item)).first(),
}


@only(places=(ALONE,))
@pytest.mark.parametrize("what", READ)
async def test_what_was_read_is_answered(stage: Stage, what: str) -> None:
    """As FastAPI does it."""

    def work() -> object:
        insert(stage.db, "a")
        return READ[what](stage.db)

    stage.route(work, response_model=None)
    seen = await stage.ask()
    assert (seen.answer.error, seen.status) == (None, 200)
    assert b"a" in seen.answer.body
