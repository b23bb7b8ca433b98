"""Where in the code a scope or block was opened, or a session was used; for messages."""

from __future__ import annotations

import sys
import sysconfig
from functools import lru_cache
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR, CO_NEWLOCALS
from itertools import dropwhile
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.orm.attributes import InstrumentedAttribute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

READING: CodeType = cast("Any", InstrumentedAttribute).__get__.__code__
GENERATORS = CO_GENERATOR | CO_ASYNC_GENERATOR
OURS = ("dbscope.", "contextlib", "functools")
OF_SESSIONS = (*OURS, "sqlalchemy.", "sqlmodel.")
INSTALLED = ("site-packages", "dist-packages")
STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


class Place:
    """A line of code. Kept as it comes, and put into words only when somebody asks."""

    __slots__ = ("code", "line")

    def __init__(self, code: CodeType, line: int) -> None:
        self.code = code
        self.line = line

    def __str__(self) -> str:
        return f"{self.code.co_filename}:{self.line}"


KNOWN = 10_000  # places, and files, that are remembered
# By instruction, and by line; each keeps its code, and so its id.
_places: dict[tuple[int, int], Place] = {}
_lines: dict[tuple[int, int], Place] = {}


def place_of(frame: FrameType) -> Place:
    """Return the line that a frame of this thread is at: the same object each time it is there.

    Which line it is takes a walk through a table of the code, so that is done once.
    """
    try:
        return _places[id(frame.f_code), frame.f_lasti]
    except KeyError:
        return _learn(frame)


def _learn(frame: FrameType) -> Place:
    if len(_places) >= KNOWN:
        _places.clear()
        _lines.clear()
    code, line = frame.f_code, frame.f_lineno
    place = _lines.setdefault((id(code), line), Place(code, line))
    return _places.setdefault((id(code), frame.f_lasti), place)


def here() -> Place | str:
    """Return the innermost line that is not ours."""
    frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None:
        if not frame.f_globals.get("__name__", "").startswith(OURS):
            break
        frame = frame.f_back
    return place_of(frame)


def is_generator(where: object) -> bool:
    """Tell whether a place is in a generator, which others go on after its `yield`."""
    return isinstance(where, Place) and bool(where.code.co_flags & GENERATORS)


def is_of_module(where: object) -> bool:
    """Tell whether a place is in no function, but in a module or the body of a class."""
    return isinstance(where, Place) and not where.code.co_flags & CO_NEWLOCALS


def of_use() -> Place:
    """Return the innermost line that uses a session: it is neither ours nor SQLAlchemy's."""
    last = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    for last in frames():
        if not is_of_session(last):
            break
    return place_of(last)


def of_call() -> str:
    """Name the line that called us; if it is a library's, the application's line behind it, too."""
    called = of_use()
    behind = callsite()
    if behind is None or behind == str(called):
        return str(called)
    return f"{called}, which was called at {behind}"


def callsite() -> str | None:
    """Name the line of the application whose statement is sent now; None if it was no line of it.

    For listeners of SQLAlchemy's events: it is the innermost line above them that belongs neither
    to an installed package nor to Python. In async code they run in a greenlet, where walking up
    the stack ends before it comes to the code that awaits.

    Example:
        >>> @event.listens_for(Engine, "before_cursor_execute")
        ... def name_the_line(*args):
        ...     trace.get_current_span().set_attribute("code.line", callsite() or "")
    """
    above = dropwhile(lambda frame: not is_of_session(frame), frames())
    for frame in above:
        if is_of_application(frame):
            return str(place_of(frame))
    return None


def frames() -> Iterator[FrameType]:
    """Give the frames above the caller of the caller, and those that wait for this greenlet.

    Async code is in the greenlet around the one that carries SQLAlchemy's.
    """
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    greenlet: Any = sys.modules.get("greenlet")
    carrier = greenlet and greenlet.getcurrent()
    while frame is not None:
        yield frame
        frame = frame.f_back
        if frame is None and carrier is not None and (carrier := carrier.parent) is not None:
            frame = carrier.gr_frame


def of_attribute() -> str:
    """Name the attribute of an object that is read now, and the line that reads it."""
    names = [str(each.f_locals["self"]) for each in frames() if each.f_code is READING]
    return f"{names[-1] if names else 'something'} at {of_use()}"


def is_of_session(frame: FrameType) -> bool:
    """Tell whether a frame is ours or SQLAlchemy's."""
    module: str = frame.f_globals.get("__name__", "")
    return module.startswith(OF_SESSIONS)


def is_of_application(frame: FrameType) -> bool:
    """Tell whether a frame is the application's: ours is not, even where we are worked on."""
    module: str = frame.f_globals.get("__name__", "")
    return not module.startswith("dbscope.") and not is_library(frame.f_code.co_filename)


COMPILED = (".pyx", ".pxd", ".pxi")  # of drivers, by names that say nothing of where they are


@lru_cache(4096)
def is_library(file: str) -> bool:
    """Tell whether a file is Python's, or of an installed package."""
    if (
        file.startswith("<")
        or file.endswith(COMPILED)
        or any(f"/{name}/" in file.replace("\\", "/") for name in INSTALLED)
    ):
        return True
    return file.startswith(STANDARD)


def of(function: Any) -> Place | str:
    """Return the place of a function."""
    if isinstance(function, FunctionType):
        return Place(function.__code__, function.__code__.co_firstlineno)
    return repr(function)
