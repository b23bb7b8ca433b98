from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from server.schemas.fields import Id, Money, Quantity


class OrderLineCreate(BaseModel):
    """Some of an item, and the price that the buyer was shown: at another one nothing is bought."""

    item_id: Id
    quantity: Quantity = 1
    price: Money | None = None


class OrderForm(OrderLineCreate):
    """The same from a page, which has a key of its own: a double click orders once."""

    key: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None


def each_once(lines: list[OrderLineCreate]) -> list[OrderLineCreate]:
    """Refuse an item on two lines."""
    if len({line.item_id for line in lines}) < len(lines):
        raise ValueError("an item is on two lines")
    return lines


class OrderCreate(BaseModel):
    lines: Annotated[
        list[OrderLineCreate], Field(min_length=1, max_length=100), AfterValidator(each_once)
    ]


class OrderLineOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    item_id: int
    name: str
    price: Decimal
    quantity: int


class OrderOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    total: Decimal
    created_at: datetime
    lines: list[OrderLineOut]


class OrderPage(BaseModel):
    """Some of the orders, newest first, and the cursor of the next page."""

    model_config = ConfigDict(from_attributes=True)

    items: list[OrderOut]
    next: str | None
