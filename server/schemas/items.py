from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

NO_NUL = r"^[^\x00]*$"  # PostgreSQL cannot store it in a text
CENT = Decimal("0.01")

Id = Annotated[int, Field(ge=1, le=2**31 - 1)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=NO_NUL)]
Description = Annotated[str, Field(max_length=1000, pattern=NO_NUL)]
Money = Annotated[
    Decimal,
    Field(ge=0, max_digits=12, decimal_places=2),
    AfterValidator(lambda amount: amount.quantize(CENT)),
]


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


class ItemPage(BaseModel):
    """Some of the items, and how many there are in all."""

    items: list[ItemOut]
    total: int
