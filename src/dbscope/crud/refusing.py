"""How a refusal is made: for Starlette too, where that is in use."""

from __future__ import annotations

import sys
from typing import TypeVar

E = TypeVar("E", bound=Exception)


def refusal(kind: type[E], words: str) -> E:
    """Return the error, for Starlette too; who has not imported that is no web application.

    Args:
        kind: one of those in `refusals.py`.
        words: what a client may read.
    """
    if "starlette.exceptions" not in sys.modules:
        return kind(words)
    from dbscope.crud.web import ANSWERS

    error: E = ANSWERS[kind](words)
    return error
