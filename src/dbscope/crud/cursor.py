"""Cursors: the place in an order where a page ended, as text that is safe in a URL.

A cursor is a JSON list in base64url (RFC 4648, section 5): a checksum of the order and the values,
then each value with a letter for its type. It is neither secret nor signed: who forges one begins
the list elsewhere, under the same filters, and reaches nothing more.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from dbscope import ConfigurationError


def _duration(text: str) -> timedelta:
    return timedelta(microseconds=int(text))


# The letter of each type, how it is written and how it is read.
CODECS: dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    bool: ("b", lambda value: "1" if value else "", bool),
    bytes: ("x", bytes.hex, bytes.fromhex),
    date: ("d", date.isoformat, date.fromisoformat),
    datetime: ("t", datetime.isoformat, datetime.fromisoformat),
    Decimal: ("n", str, Decimal),
    float: ("f", repr, float),
    int: ("i", str, int),
    str: ("s", str, str),
    time: ("h", time.isoformat, time.fromisoformat),
    timedelta: ("p", lambda value: str(value // timedelta(microseconds=1)), _duration),
    UUID: ("u", str, UUID),
}
READERS = {letter: read for letter, _, read in CODECS.values()}


def encode(order: str, values: Sequence[Any]) -> str:
    """Return the cursor of a row.

    Args:
        order: what is ordered by, in words; a cursor of another order is refused.
        values: the row's values in that order, as the driver has given them.

    Raises:
        ConfigurationError: a value is of a type that has no cursor.
    """
    written = [_written(value) for value in values]
    content = json.dumps([_checksum(order, written), *written], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).rstrip(b"=").decode()


def decode(cursor: str, order: str, length: int) -> list[Any]:
    """Return the values in a cursor.

    Args:
        cursor: what a client has sent.
        order: what is ordered by, in words.
        length: of how many values.

    Raises:
        ValueError, LookupError, TypeError, ArithmeticError, RecursionError: it is no cursor of
            this order.
    """
    padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
    content: list[Any] = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    checksum, *written = content
    if checksum != _checksum(order, written) or len(written) != length:
        raise ValueError(cursor)
    return [None if one is None else READERS[one[:1]](one[1:]) for one in written]


def _checksum(order: str, written: Sequence[str | None]) -> int:
    return zlib.crc32(json.dumps([order, *written]).encode())


def _written(value: Any) -> str | None:
    if value is None:
        return None
    for kind in type(value).__mro__:
        if kind in CODECS:
            letter, write, _ = CODECS[kind]
            return letter + write(value)
    raise ConfigurationError(f"A list cannot be ordered by values of type {type(value).__name__}.")
