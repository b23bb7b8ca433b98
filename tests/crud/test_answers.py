"""What a client is answered: the errors of `dbscope.crud` are Starlette's, where that is in use."""

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.util import await_only
from starlette.exceptions import HTTPException

from dbscope.crud import BadCursor, BadRequest, NotFound
from dbscope.crud.refusing import refusal
from tests.asgi import Answer, ask
from tests.crud.shop import Product, products
from tests.worlds import Both, World

in_scope = pytest.mark.worlds(places=["scope"])

WRONG: dict[str, tuple[int, Callable[[Both], Any]]] = {
    "no such row": (404, lambda db: products(db).get_or_404(7)),
    "limit": (422, lambda db: products(db).list(limit=0)),
    "sort": (422, lambda db: products(db).list(order_by="id")),
    "cursor": (422, lambda db: products(db).list(after="x")),
}


def answer(shop: World, body: Callable[[Both], Any], **handlers: Any) -> Answer:
    """Return the answer of an application whose endpoint does this after it has stored a row."""

    def work(db: Both) -> None:
        products(db).create({"sku": "lamp"})
        body(db)

    def story(db: Both) -> Answer:
        app = FastAPI(**handlers)
        app.post("/")(db.awaitable(lambda: work(db)))
        db.real.install(app)
        return await_only(ask(app, "POST", "/"))

    world = World(shop.driver, "request", shop.url, shop.look, shop.database)
    return world.play(story)


@pytest.mark.parametrize("name", WRONG)
@in_scope
def test_what_cannot_be_given_is_a_status_and_a_sentence(shop: World, name: str) -> None:
    """404 for a row, 422 for a parameter; and the request has stored nothing."""
    status, body = WRONG[name]
    answered = answer(shop, body)
    assert answered.status == status
    assert json.loads(answered.body)["detail"].endswith(".")
    assert answered.error is None
    assert shop.look.rows("SELECT * FROM product") == []


@pytest.mark.parametrize("kind", [NotFound, LookupError, HTTPException, Exception])
@pytest.mark.worlds(drivers=lambda name: name == "inline", places=["scope"])
def test_an_application_may_answer_itself(shop: World, kind: type[Exception]) -> None:
    """By a handler of either family."""

    async def handler(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"sorry": str(kind)}, 410)

    answered = answer(shop, WRONG["no such row"][1], exception_handlers={kind: handler})
    assert answered.status == (404 if kind is Exception else 410)


@pytest.mark.parametrize("kind", [NotFound, BadRequest, BadCursor])
def test_the_errors_are_of_both_families(kind: type[Exception]) -> None:
    """They can be caught as ours, carried to another process, and read."""
    error = refusal(kind, "words")
    assert isinstance(error, kind)
    assert isinstance(error, HTTPException)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.status_code, copy.detail, copy.args) == (error.status_code, "words", ("words",))
    with pytest.raises(kind, match="words"):
        raise copy


@in_scope
def test_what_a_filter_hides_is_hidden_from_a_cursor_too(shop: World) -> None:
    """A cursor of all rows, used where fewer may be seen, gives none of the others."""

    def body(db: Both) -> None:
        items = products(db)
        for sku in "abcd":
            items.create({"sku": sku, "name": "mine" if sku in "bd" else "theirs"})
        after = items.list(limit=1).next
        page = items.list(Product.name == "mine", after=after)
        assert [row.sku for row in page.items] == ["b", "d"]

    shop.run(body)
