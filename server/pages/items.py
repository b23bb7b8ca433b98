"""The items, and one of them with the form to order it."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy import ColumnElement, func

from server.crud.items import items
from server.crud.orders import gross
from server.crud.stock import stocks
from server.models import Item, Stock
from server.pages.forms import Form
from server.pages.page import LIVE, page
from server.schemas.fields import Id

router = APIRouter()
ON_A_PAGE = 12
GROSS = Item.price + func.coalesce(Item.tax, Decimal(0))  # `gross`, for the database
SORTS = {"name": "By name", "price": "Cheapest", "-price": "Dearest", "-id": "Newest"}
ORDERS: dict[str, ColumnElement[Any]] = {
    "name": Item.name.asc(),
    "price": GROSS.asc(),
    "-price": GROSS.desc(),
    "-id": Item.id.desc(),
}
Sort = Literal["name", "price", "-price", "-id"]


@router.get("/")
async def list_items(
    request: Request,
    after: Annotated[str | None, Query(max_length=1000)] = None,
    sort: Sort = "name",
) -> Response:
    """Show the items, a page at a time."""
    some = await items.list(order_by=ORDERS[sort], limit=ON_A_PAGE, after=after)
    shown = {
        "items": some.items,
        "next": some.next,
        "after": after,
        "sort": sort,
        "sorts": SORTS,
        "left": await left_of(some.items),
        "gross": gross,
    }
    return page(request, "items.html", shown)


@router.get("/shop/items/{item_id}")
async def show_item(request: Request, item_id: Id) -> Response:
    """Show an item."""
    return await item_page(request, item_id, Form())


async def item_page(request: Request, item_id: int, form: Form) -> Response:
    """Return the page of an item; 422 if there is something to correct in the form."""
    item = await items.get_or_404(item_id)
    left = (await left_of([item]))[item.id]
    shown = {"item": item, "left": left, "price": gross(item), "form": form, "key": uuid4().hex}
    return page(request, "item.html", shown, 422 if form.is_wrong else 200, LIVE)


async def left_of(some: Sequence[Item]) -> dict[int, int]:
    """Return how many there are of each item, by one statement for all of them."""
    ids = [item.id for item in some]
    found = await stocks.list(Stock.item_id.in_(ids), limit=ON_A_PAGE)
    return dict.fromkeys(ids, 0) | {stock.item_id: stock.remaining for stock in found.items}
