"""The fields that several resources have."""

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field

NO_NUL = r"^[^\x00]*$"  # PostgreSQL cannot store it in a text
CENT = Decimal("0.01")
LARGEST_ID = 2**31 - 1

Id = Annotated[int, Field(ge=1, le=LARGEST_ID)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=NO_NUL)]
Description = Annotated[str, Field(max_length=1000, pattern=NO_NUL)]
Money = Annotated[
    Decimal,
    Field(ge=0, max_digits=12, decimal_places=2),
    AfterValidator(lambda amount: abs(amount.quantize(CENT))),
]
Quantity = Annotated[int, Field(ge=1, le=1_000_000)]
