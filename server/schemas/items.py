from decimal import Decimal

from pydantic import BaseModel, ConfigDict

from server.schemas.fields import Description, Id, Money, Name


class ItemCreate(BaseModel):
    name: Name
    description: Description | None = None
    price: Money
    tax: Money | None = None
    owner_id: Id | None = None


class ItemUpdate(BaseModel):
    """Any of the fields; those left out stay as they are, so their defaults here are never used."""

    name: Name = ""
    description: Description | None = None
    price: Money = Decimal(0)
    tax: Money | None = None
    owner_id: Id | None = None


class ItemOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    description: str | None
    price: Decimal
    tax: Decimal | None
    owner_id: int | None
    version: int


class ItemPage(BaseModel):
    """Some of the items, how many there are in all, and the cursor of the next page."""

    model_config = ConfigDict(from_attributes=True)

    items: list[ItemOut]
    total: int
    next: str | None
