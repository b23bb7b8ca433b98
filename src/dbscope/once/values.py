"""What is kept of a key, an input and a result."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

from dbscope.arguments import Rule

LONGEST = timedelta(days=36_500)  # no table of ours is older; what is stored stays a date
KEEP = Rule("a positive timedelta", lambda v: isinstance(v, timedelta) and v > timedelta())
NOT_FOR_EVER = Rule(f"a timedelta of at most {LONGEST.days} days", lambda v: v <= LONGEST)


def digest(value: str | bytes) -> str:
    """Return the SHA-256 of a text, as 64 characters."""
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()


def check_key(key: str) -> None:
    """Refuse a text that not every database can store.

    Raises:
        ValueError: it has a NUL, or half of a surrogate pair.
    """
    if "\0" in key or any("\ud800" <= character <= "\udfff" for character in key):
        raise ValueError(
            f"The key {key!r} has a character that not every database can store: NUL, or half of "
            "a surrogate pair. Take the digest of what it is made of, or leave them out."
        )


def fingerprint_of(value: Any) -> str | None:
    """Return what tells one input from another; None if it is not to be told.

    Args:
        value: a text, bytes, or what JSON can hold.

    Raises:
        TypeError: it is none of these.
    """
    if value is None:
        return None
    if isinstance(value, str | bytes):
        return digest(value)
    try:
        return digest(json.dumps(value, sort_keys=True))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"fingerprint must be a str, bytes or what JSON can hold, not {value!r}."
        ) from error


def stored(result: Any) -> bytes:
    """Return a result as it is stored.

    Raises:
        TypeError: JSON cannot hold it, so that the next call would return something else.
    """
    try:
        text = json.dumps(result)
        if json.loads(text) == result:
            return text.encode()
    except (TypeError, ValueError):
        pass
    raise TypeError(
        f"The result of once is stored as JSON, and {result!r} would not come back as it is. "
        "Return an id, or a dict or list of plain values."
    )


def restored(result: bytes | None) -> Any:
    """Return a result that was stored."""
    return None if result is None else json.loads(result)
