"""Lines of the application: who sends a statement, and where an error was raised."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from dbscope.unit.callsite import KNOWN, Place, is_of_application, place_of

try:
    from greenlet import getcurrent
except ImportError:  # who has no asynchronous code needs none

    def getcurrent() -> Any:
        """Return what has no parent."""
        return SimpleNamespace(parent=None)


if TYPE_CHECKING:
    from types import FrameType, TracebackType

NOWHERE = os.devnull  # has nothing below it
OF_LOOP = ("asyncio.events", "asyncio.runners")  # what is below has not called what is above
LIBRARY, APPLICATION, LOOP = range(3)
_kinds: dict[str, int] = {}  # of files; that of a library is false


def working_directory() -> str:
    """Return it; a process goes on where its own was deleted, by the next deployment say."""
    try:
        return str(Path.cwd())
    except OSError:
        return NOWHERE


ROOT = working_directory()  # below which files have short names


def line_here(above: int = 0) -> Place | None:
    """Return the innermost line of the application above; None if there is none.

    In async code SQLAlchemy runs in a greenlet, where the stack ends before it comes to the code
    that awaits: that is in the greenlet around it.

    Args:
        above: how many calls above this one are not the application's, as is known beforehand. The
            last of them may be all of its greenlet.
    """
    frame = sys._getframe(above).f_back  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    carrier: Any = None
    kinds = _kinds
    while True:
        try:
            while frame is not None:  # for each statement many times: it does nothing else
                if kind := kinds[frame.f_code.co_filename]:
                    return place_of(frame) if kind == APPLICATION else None
                frame = frame.f_back
        except KeyError:
            assert frame is not None
            _learn(frame)
            continue
        carrier = getcurrent().parent if carrier is None else carrier.parent
        if carrier is None:
            return None
        frame = carrier.gr_frame


def _learn(frame: FrameType) -> None:
    if len(_kinds) >= KNOWN:
        _kinds.clear()
    kind = APPLICATION if is_of_application(frame) else LIBRARY
    if frame.f_globals.get("__name__") in OF_LOOP:
        kind = LOOP
    _kinds[frame.f_code.co_filename] = kind


def line_of(error: BaseException) -> Place | None:
    """Return the innermost line of the application that an error has come through."""
    found = _line_in(error.__traceback__)
    behind = error.__cause__ or error.__context__
    return line_of(behind) if found is None and behind is not None else found


def _line_in(traceback: TracebackType | None) -> Place | None:
    found: Place | None = None
    while traceback is not None:
        if is_of_application(traceback.tb_frame):
            found = Place(traceback.tb_frame.f_code, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


def told(line: Place | str | None) -> str | None:
    """Return a line as it is shown: below the working directory by its name there."""
    if line is None or isinstance(line, str):
        return line
    return _told(line.code.co_filename, line.line)


@lru_cache(KNOWN)
def _told(file: str, line: int) -> str:
    below = Path(file).is_relative_to(ROOT)
    return f"{os.path.relpath(file, ROOT) if below else file}:{line}"
