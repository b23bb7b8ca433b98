"""How the recorder hears of what the ORM sends, and of hooks; and what a statement has found."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbscope.watch import events, reasons
from dbscope.watch.parts import HookRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.unit.hooks import Hook
    from dbscope.unit.unit import Unit
    from dbscope.watch.events import Event
    from dbscope.watch.kept import Kept

LONGEST = 200  # characters of values, if they are kept at all


def _flush(recorder: Kept, unit: Unit) -> None:
    draft, session = recorder.drafts[unit], unit.session
    for place, objects in enumerate((session.new, session.dirty, session.deleted)):  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
        for each in objects:
            what = type(each).__name__, place
            draft.flushed[what] = draft.flushed.get(what, 0) + 1


def _hook(recorder: Kept, unit: Unit, _: Hook) -> None:
    recorder.drafts[unit].hook_began = perf_counter()


def _hook_ended(recorder: Kept, unit: Unit, hook: Hook, error: BaseException | None = None) -> None:
    draft = recorder.drafts[unit]
    told = None if error is None else reasons.of_error(error, unit)[0]
    now = perf_counter()
    at = draft.hook_began - draft.began
    draft.hooks.append(HookRun(str(hook), at, now - draft.hook_began, told))


def _attempt_failed(recorder: Kept, what: object, *_: object) -> None:
    for draft in recorder.all_drafts():
        if what is draft.scope:
            draft.again = True
    recorder.note_again(what)


def rows_of(context: Any) -> int | None:
    """Return how many rows a statement has written or found, where its driver tells."""
    try:
        rows: int = context.cursor.rowcount
    except AttributeError:
        rows = -1
    if rows >= 0:
        return rows
    fetched = getattr(context.cursor, "_rows", None)  # an adapter for async drivers has them all
    if not fetched and is_many(context):  # asyncpg does not tell; each has at least been sent
        return len(context.parameters)
    return None if fetched is None else len(fetched)


def is_many(context: Any) -> bool:
    """Tell whether a statement is sent with many sets of parameters at once."""
    return getattr(getattr(context, "execute_style", None), "name", "") == "EXECUTEMANY"


def shortened(values: Any) -> str:
    """Return values as they are shown, if anybody has asked for them."""
    told = repr(values)
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}…"


HANDLERS: dict[type[Event], Callable[..., None]] = {
    events.FlushBegun: _flush,
    events.HookBegun: _hook,
    events.HookEnded: _hook_ended,
    events.HookFailed: _hook_ended,
    events.AttemptFailed: _attempt_failed,
}
