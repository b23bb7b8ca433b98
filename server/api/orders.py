from fastapi import APIRouter, HTTPException, Request

from dbscope.crud import Page
from server.api.items import After, Limit
from server.api.problems import responses
from server.crud.orders import orders
from server.db.database import db
from server.models import Order
from server.schemas.fields import Id
from server.schemas.orders import OrderCreate, OrderOut, OrderPage
from server.security.users import Customer, visitor

router = APIRouter(prefix="/orders", tags=["orders"])


KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Sent again with the same key, the order is not placed again: it is answered as "
    "the first time. Best a UUID.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


async def whose(request: Request) -> str:
    """Return whose key it is; nobody else's request is answered by what this user was told."""
    user = await visitor(request)
    return "" if user is None else str(user.id)


@router.post(
    "",
    status_code=201,
    response_model=OrderOut,
    responses=responses(400, 401, 403, 409, 413, 422),
    openapi_extra={"parameters": [KEY]},
)
@db.idempotent(user=whose)
async def place_order(data: OrderCreate, user: Customer) -> Order:
    """Place an order: all of it, or with a 409 nothing."""
    return await orders.place(user, data.lines)


@router.get("", response_model=OrderPage, responses=responses(401, 422))
async def list_orders(user: Customer, limit: Limit = 20, after: After = None) -> Page[Order]:
    """List your own orders, newest first."""
    return await orders.of(user, limit=limit, after=after)


@router.get("/{order_id}", response_model=OrderOut, responses=responses(401, 404, 422))
async def get_order(order_id: Id, user: Customer) -> Order:
    """Show an order of your own; that of somebody else is a 404, too."""
    order = await orders.one_of(user, order_id)
    if order is None:
        raise HTTPException(404, "There is no such order.")
    return order
