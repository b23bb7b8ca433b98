"""The fields that several resources have."""

import unicodedata
from collections.abc import Callable
from decimal import Decimal
from email.headerregistry import Address
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

CENT = Decimal("0.01")
LARGEST_ID = 2**31 - 1

# Of Unicode's categories: controls (NUL, TAB and DEL are some), halves of characters, and what ends
# a line or a paragraph. Joiners and tags stay, for emoji and many scripts are written with them.
UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # text shown as another
VISIBLE = "LNPS"  # letters, numbers, punctuation and symbols, all but those that look like nothing
BLANK = set("\u115f\u1160\u2800\u3164\uffa0")


def printable(*allowed: str) -> Callable[[str], str]:
    """Return what refuses characters that nobody sees, and that do something."""

    def check(text: str) -> str:
        for each in text:
            if each not in allowed and (unicodedata.category(each) in UNPRINTABLE or each in BIDI):
                raise ValueError("leave out the invisible characters")
        return text

    return check


def visible(text: str) -> str:
    """Refuse a text that looks as if there were none."""
    if not any(unicodedata.category(each)[0] in VISIBLE and each not in BLANK for each in text):
        raise ValueError("a name has something to see")
    return text


def deliverable(address: str) -> str:
    """Refuse an address that no mail can be made for, or that readers would decode (RFC 2047)."""
    try:
        Address(addr_spec=address)
    except Exception:  # defects and errors of several kinds
        raise ValueError("not an address") from None
    local = address.partition("@")[0]
    if "=?" in address or len(local) > LONGEST_LOCAL:
        raise ValueError("not an address")
    return address


# As browsers check `<input type=email>`: https://html.spec.whatwg.org/#valid-e-mail-address
LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
EMAIL = rf"^[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{LABEL}(?:\.{LABEL})*$"
LONGEST_LOCAL = 64  # characters before the @ (RFC 5321, 4.5.3.1.1)

# Whether mail arrives is found out by sending one.
Email = Annotated[
    str,
    StringConstraints(to_lower=True, max_length=254, pattern=EMAIL),
    AfterValidator(deliverable),
]
Id = Annotated[int, Field(ge=1, le=LARGEST_ID)]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(printable()),
    AfterValidator(visible),
]
Description = Annotated[str, Field(max_length=1000), AfterValidator(printable("\n", "\r"))]
Money = Annotated[
    Decimal,
    Field(ge=0, max_digits=12, decimal_places=2),
    AfterValidator(lambda amount: abs(amount.quantize(CENT))),
]
Quantity = Annotated[int, Field(ge=1, le=1_000_000)]
