from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from server.schemas.fields import Name

# As browsers check `<input type=email>`: https://html.spec.whatwg.org/#valid-e-mail-address
LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
EMAIL = rf"^[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{LABEL}(?:\.{LABEL})*$"


def no_encoded_word(address: str) -> str:
    """Refuse what readers of mail would decode (RFC 2047)."""
    if "=?" in address:
        raise ValueError("not an address")
    return address


# Whether mail arrives is found out by sending one.
Email = Annotated[
    str,
    StringConstraints(to_lower=True, max_length=254, pattern=EMAIL),
    AfterValidator(no_encoded_word),
]


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
