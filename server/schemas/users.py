from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from server.schemas.fields import Email, Name


def text(password: SecretStr) -> SecretStr:
    """Refuse half of a character, which JSON can spell and nobody can type."""
    try:
        password.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("not a text") from None
    return password


Secret = Annotated[SecretStr, Field(max_length=200), AfterValidator(text)]
Password = Annotated[Secret, Field(min_length=8)]


class UserCreate(BaseModel):
    email: Email
    name: Name
    password: Password


class UserOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    email: str
    name: str
    credit: Decimal
