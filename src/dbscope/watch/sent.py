"""How the recorder hears of statements, of what the ORM sends, and of hooks."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbscope.watch import events, lines, reasons, text_savepoints
from dbscope.watch.drafts import MOST, Draft
from dbscope.watch.records import HookRun, Sent
from dbscope.watch.sql import WRITES, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.watch.events import Event
    from dbscope.watch.recorder import Recorder

# They are told as transactions and savepoints.
UNTOLD = frozenset({"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"})
LONGEST = 200  # characters of values, if they are kept at all


def _statement(recorder: Recorder, event: events.StatementBegun) -> None:
    unit = event.unit
    draft = recorder.drafts.get(unit) or recorder.draft(unit)
    now, line, sql = perf_counter(), lines.line_here(), parse(event.sql)
    if draft.idle_since is not None:
        draft.act(line, now)
    if not draft.transactions or draft.transactions[-1].ended is not None:
        draft.begin(autocommit=unit.is_alone)
    values = shortened(event.parameters) if recorder.values else None
    place = len(draft.transactions) - 1
    sent = draft.current = Sent(sql, line, now, place, draft.savepoint, values)
    if sql.kind == "SELECT":
        recorder.finder(draft, sent, event)


def _statement_ended(recorder: Recorder, event: events.StatementEnded) -> None:
    draft = recorder.drafts.get(event.unit) or recorder.draft(event.unit)
    sent, draft.current = draft.current, None
    if sent is None:
        return
    now = sent.ended = perf_counter()
    draft.idle_since, draft.idle_line = now, sent.line
    sent.rows = rows_of(event.context)
    if draft.waiting is not None:
        draft.waited(granted=event.error is None)
    if event.error is not None:
        sent.error = reasons.describe(event.error, event.unit)
    if sent.sql.kind not in UNTOLD:
        _keep(draft, sent)
    elif event.error is None and text_savepoints.is_one(sent, event.context):
        text_savepoints.note(draft, sent, event.context.statement)


def _keep(draft: Draft, sent: Sent) -> None:
    is_kept = len(draft.statements) < MOST
    if sent.sql.kind in WRITES:
        _count(draft, sent, is_kept=is_kept)
    if is_kept:
        draft.statements.append(sent)
    else:
        draft.more += 1


def _count(draft: Draft, sent: Sent, *, is_kept: bool) -> None:
    """Note what was written; of the statements that are not kept, only how many rows."""
    if is_kept or sent.error is not None:
        draft.writes.append(sent)
        return
    what = (sent.sql.kind, sent.sql.table, sent.transaction, sent.savepoint)
    known = draft.uncounted.get(what)
    if known is None:
        draft.uncounted[what] = sent
        draft.writes.append(sent)
    else:
        known.rows = sum(1 if each.rows is None else each.rows for each in (known, sent))


def _flush(recorder: Recorder, event: events.FlushBegun) -> None:
    draft, session = recorder.draft(event.unit), event.unit.session
    for place, objects in enumerate((session.new, session.dirty, session.deleted)):  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
        for each in objects:
            draft.flushed[type(each).__name__, place] += 1


def _hook(recorder: Recorder, event: events.HookBegun) -> None:
    recorder.draft(event.unit).hook_began = perf_counter()


def _hook_ended(recorder: Recorder, event: events.HookEnded | events.HookFailed) -> None:
    draft = recorder.draft(event.unit)
    error = getattr(event, "error", None)
    told = None if error is None else reasons.of_error(error, event.unit)[0]
    now = perf_counter()
    at = draft.hook_began - draft.began
    draft.hooks.append(HookRun(str(event.hook), at, now - draft.hook_began, told))


def _attempt_failed(recorder: Recorder, event: events.AttemptFailed) -> None:
    for draft in recorder.all_drafts():
        if event.what is draft.scope:
            draft.again = True
    recorder.note_again(event.what)


def rows_of(context: Any) -> int | None:
    """Return how many rows a statement has written or found, where its driver tells."""
    cursor = getattr(context, "cursor", None)
    rows = getattr(cursor, "rowcount", None)
    if rows is None or rows < 0:
        fetched = getattr(cursor, "_rows", None)  # an adapter for async drivers has fetched all
        return None if fetched is None else len(fetched)
    return int(rows)


def is_many(context: Any) -> bool:
    """Tell whether a statement is sent with many sets of parameters at once."""
    return getattr(getattr(context, "execute_style", None), "name", "") == "EXECUTEMANY"


def shortened(values: Any) -> str:
    """Return values as they are shown, if anybody has asked for them."""
    told = repr(values)
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}…"


HANDLERS: dict[type[Event], Callable[[Recorder, Any], None]] = {
    events.StatementBegun: _statement,
    events.StatementEnded: _statement_ended,
    events.FlushBegun: _flush,
    events.HookBegun: _hook,
    events.HookEnded: _hook_ended,
    events.HookFailed: _hook_ended,
    events.AttemptFailed: _attempt_failed,
}
