from fastapi import APIRouter, HTTPException

from dbscope.crud import Page
from server.api.items import After, Limit
from server.api.problems import responses
from server.crud.orders import orders
from server.models import Order
from server.schemas.fields import Id
from server.schemas.orders import OrderCreate, OrderOut, OrderPage
from server.security.users import Customer

router = APIRouter(prefix="/orders", tags=["orders"])


@router.post(
    "", status_code=201, response_model=OrderOut, responses=responses(400, 401, 403, 409, 413, 422)
)
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
