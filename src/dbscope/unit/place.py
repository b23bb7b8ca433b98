"""Where in the code a scope or block was opened; for messages."""

from __future__ import annotations

import sys
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from types import CodeType, FunctionType
from typing import Any

GENERATORS = CO_GENERATOR | CO_ASYNC_GENERATOR
OURS = ("dbscope.", "contextlib", "functools")
OF_SESSIONS = (*OURS, "sqlalchemy.", "sqlmodel.")


class Place:
    """A line of code. Kept as it comes, and put into words only when somebody asks."""

    __slots__ = ("code", "line")

    def __init__(self, code: CodeType, line: int) -> None:
        self.code = code
        self.line = line

    def __str__(self) -> str:
        return f"{self.code.co_filename}:{self.line}"


def here() -> Place | str:
    """Return the innermost line that is not ours."""
    frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None:
        if not frame.f_globals.get("__name__", "").startswith(OURS):
            break
        frame = frame.f_back
    return Place(frame.f_code, frame.f_lineno)


def is_generator(where: object) -> bool:
    """Tell whether a place is in a generator, which others go on after its `yield`."""
    return isinstance(where, Place) and bool(where.code.co_flags & GENERATORS)


def of_use() -> Place | str:
    """Return the innermost line that uses a session: it is neither ours nor SQLAlchemy's.

    Async code is in the greenlet around the one that carries SQLAlchemy's.
    """
    frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    greenlet: Any = sys.modules.get("greenlet")
    carrier = greenlet and greenlet.getcurrent()
    while frame.f_globals.get("__name__", "").startswith(OF_SESSIONS):
        outer = frame.f_back
        if outer is None and carrier is not None and (carrier := carrier.parent) is not None:
            outer = carrier.gr_frame
        if outer is None:
            break
        frame = outer
    return Place(frame.f_code, frame.f_lineno)


def of(function: Any) -> Place | str:
    """Return the place of a function."""
    if isinstance(function, FunctionType):
        return Place(function.__code__, function.__code__.co_firstlineno)
    return repr(function)
