"""Calls never awaited and blocks never entered: nothing was done, and nobody would notice.

Python knows of each call when it is thrown away, and has its module `warnings` say so. We listen
there: a call that is awaited costs nothing. A block tells of itself; it may be kept and left out
on purpose, so it is forgotten only where it is thrown away at once.
"""

from __future__ import annotations

import dis
import gc
import sys
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

from dbscope.unit import callsite
from dbscope.unit.current import open_scope

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from dbscope.unit.current import Scope

OF_DATABASES = ("AsyncDatabase", "AsyncQueries", "AsyncBlocks", "AsyncCalls", "AsyncServer")
TELL = "_warn_unawaited_coroutine"  # of `warnings`, which the interpreter looks up each time


class _Collector:
    """Whether the garbage collector runs: what it finds may be another request's."""

    runs = False

    def __call__(self, phase: str, info: object) -> None:  # noqa: ARG002
        self.runs = phase == "start"


_collector = _Collector()


@cache
def watch() -> None:
    """Listen, from now on."""
    tell = getattr(warnings, TELL, None)
    if tell is None:  # an interpreter that has another way
        return

    def note_and_tell(coroutine: Any) -> None:
        dropped_by = sys._getframe().f_back  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if dropped_by is not None:  # as it is where the interpreter ends
            note(coroutine, dropped_by)
        tell(coroutine)

    setattr(warnings, TELL, note_and_tell)
    gc.callbacks.append(_collector)


def note(coroutine: Any, frame: FrameType) -> None:
    """Note a call that nobody has awaited in the scope that it was made in, if it is one of ours.

    Args:
        coroutine: what the call has returned.
        frame: the code that has thrown it away.
    """
    called: FrameType = coroutine.cr_frame
    module: str = called.f_globals.get("__name__", "")
    what, unit = _carried(called.f_locals.get("self"))
    scope: Scope | None = None
    if unit is not None:
        scope = unit.scope
    elif module.startswith("dbscope.") and not _collector.runs:
        scope = open_scope()
    if scope is not None and not scope.closed:
        name = _name(coroutine) if unit is None else f"{what}.{coroutine.__name__}"
        call = f"`{name}()` was called{_where(coroutine.__name__, frame)}"
        scope.forgotten = (*scope.forgotten, f"{call} and never awaited")


def note_never_entered(called: str, where: object, frame: FrameType | None) -> None:
    """Note a block that was thrown away where it was made: `db.atomic()` as a statement.

    One that was kept, in a variable or in an object, may be left out on purpose.

    Args:
        called: what has made it, as it is written.
        where: it was called.
        frame: the code that has thrown it away.
    """
    scope = None if _collector.runs else open_scope()
    if scope is not None and frame is not None and _is_statement(frame, where):
        call = f"`{called}()` was called at {where} and never entered"
        scope.forgotten = (*scope.forgotten, call)


def _is_statement(frame: FrameType, where: object) -> bool:
    """Tell whether a frame is throwing away what it was given by the call at this place."""
    code, last = frame.f_code, frame.f_lasti
    if not isinstance(where, callsite.Place) or where.code is not code:
        return False
    if dis.opname[code.co_code[last]] != "POP_TOP":
        return False
    before = [each for each in dis.get_instructions(code) if each.offset <= last][-2:]
    lines = before[-1].positions
    first = (lines and lines.lineno) or frame.f_lineno
    end = (lines and lines.end_lineno) or first
    return before[0].opname.startswith("CALL") and first <= where.line <= end


def _carried(owner: object) -> tuple[str, Any]:
    """Return what of SQLAlchemy's a method is of, and the unit that this belongs to."""
    for what in ("session", "connection"):
        plain = getattr(owner, f"sync_{what}", None)
        if plain is not None:
            return what, getattr(plain, "dbscope_unit", None)
    result = getattr(owner, "_real_result", None)  # of `session.stream()`
    context = getattr(getattr(result, "raw", result), "context", None)
    return "result", getattr(getattr(context, "root_connection", None), "dbscope_unit", None)


def _name(coroutine: Any) -> str:
    name: str = coroutine.__qualname__
    kind, _, member = name.rpartition(".")
    return f"db.{member}" if kind in OF_DATABASES else name


def _where(name: str, frame: FrameType) -> str:
    """Tell where a call was made; one that is kept in a variable is thrown away by the caller."""
    code = frame.f_code
    if name in _named_on(code, frame.f_lineno):
        return f" at {callsite.Place(code, frame.f_lineno)}"
    if callsite.is_of_application(frame):
        return f", in what was called at {callsite.Place(code, frame.f_lineno)},"
    return ", kept in a variable"


def _named_on(code: CodeType, line: int) -> set[object]:
    """Return the names that a line of code uses."""
    found = ((each.positions, each.argval) for each in dis.get_instructions(code))
    return {name for positions, name in found if positions and positions.lineno == line}
