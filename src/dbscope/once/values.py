"""What is kept of a key, an input and a result."""

from __future__ import annotations

import hashlib
import json
from typing import Any

Key = str


def digest(value: str | bytes) -> str:
    """Return the SHA-256 of a text, as 64 characters."""
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()


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
