from pydantic import BaseModel, ConfigDict

from server.schemas.fields import Quantity


class StockCreate(BaseModel):
    """Goods that came in."""

    quantity: Quantity


class StockOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    item_id: int
    bought: int
    remaining: int
