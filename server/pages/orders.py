"""Ordering, and what was ordered."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi import Form as FormField
from fastapi.responses import Response

from dbscope import KeyReused
from server.crud.orders import orders
from server.db.database import db
from server.models import User
from server.pages.forms import read
from server.pages.items import item_page
from server.pages.page import page, see_other, to_login
from server.schemas.fields import Id
from server.schemas.orders import OrderForm
from server.security.users import Visitor

router = APIRouter(prefix="/shop/orders")


@router.post("")
async def place_order(
    request: Request, item_id: Annotated[Id, FormField()], user: Visitor
) -> Response:
    """Order some of an item. CannotOrder becomes its page, with a way back."""
    request.state.back = f"/shop/items/{item_id}"
    if user is None:
        return to_login(request.state.back)
    line, form = await read(request, OrderForm)
    if line is None:
        return await item_page(request, item_id, form)
    try:
        return see_other(f"/shop/orders/{await place_once(user, line)}")
    except KeyReused:
        form.errors["quantity"] = "This was ordered already, in another quantity. Order again?"
        return await item_page(request, item_id, form)


async def place_once(user: User, line: OrderForm) -> int:
    """Place the order that this form stands for, however often it is sent; return its number."""
    if line.key is None:
        return (await orders.place(user, [line])).id
    asked = line.model_dump(mode="json", exclude={"key"})
    async with db.once(f"form:{user.id}:{line.key}", fingerprint=asked) as once:
        if not once.done:
            once.result = (await orders.place(user, [line])).id
    return int(once.result)


@router.get("")
async def list_orders(
    request: Request, user: Visitor, after: Annotated[str | None, Query(max_length=1000)] = None
) -> Response:
    """Show your own orders, newest first."""
    if user is None:
        return to_login("/shop/orders")
    some = await orders.of(user, after=after)
    return page(request, "orders.html", {"orders": some.items, "next": some.next, "after": after})


@router.get("/{order_id}")
async def show_order(request: Request, order_id: Id, user: Visitor) -> Response:
    """Show an order of your own; that of somebody else is a 404, too."""
    if user is None:
        return to_login(f"/shop/orders/{order_id}")
    order = await orders.one_of(user, order_id)
    if order is None:
        raise HTTPException(404, "There is no such order.")
    return page(request, "order.html", {"order": order, "email": user.email})
