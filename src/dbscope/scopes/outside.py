"""Code that is called from inside a scope, and is no part of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from dbscope.unit.current import current

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def outside() -> Generator[None, None, None]:
    """Have no scope while it lasts: what is called there shares no transaction."""
    token = current.set(None)
    try:
        yield
    finally:
        current.reset(token)
