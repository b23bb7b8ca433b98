"""Plain values, as they go from one process to another."""

from __future__ import annotations

import json
from typing import Any, cast


def encoded(value: Any) -> bytes:
    """Return JSON, on one line."""
    return json.dumps(value, separators=(",", ":"), default=str).encode()


def decoded(told: bytes) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: it is none, or too deep.
    """
    try:
        return json.loads(told)
    except RecursionError:
        raise ValueError("It is too deep.") from None


def dictionary(value: Any) -> dict[str, Any]:
    """Return what should be a dictionary; of anything else, an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
