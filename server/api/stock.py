from fastapi import APIRouter, HTTPException

from server.api.items import Changeable
from server.api.problems import responses
from server.crud.stock import stocks
from server.models import Stock
from server.schemas.fields import Id
from server.schemas.stock import StockCreate, StockOut

router = APIRouter(prefix="/items/{item_id}/stock", tags=["stock"])


@router.get("", response_model=StockOut, responses=responses(404, 422))
async def get_stock(item_id: Id) -> Stock:
    """Show how many of an item there are."""
    return await stocks.get_or_404(item_id)


@router.post(
    "",
    status_code=201,
    response_model=StockOut,
    responses=responses(400, 401, 403, 404, 412, 413, 422),
)
async def add_stock(item: Changeable, data: StockCreate) -> Stock:
    """Store goods that came in."""
    stock = await stocks.add(item.id, data.quantity)
    if stock is None:
        raise HTTPException(404, "There is no such item.")
    return stock
