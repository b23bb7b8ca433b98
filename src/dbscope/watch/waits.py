"""How the recorder hears of connections, of waiting, and of who is waited for."""

from __future__ import annotations

import asyncio
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbscope.watch import events, lines, reasons, records
from dbscope.watch.drafts import holding, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.watch.events import Event
    from dbscope.watch.kept import Kept


def _wanted(recorder: Kept, event: events.ConnectionWanted) -> None:
    draft = recorder.draft(event.unit)
    draft.who = who()
    if event.is_full:
        holders = recorder.holders(event.engine)
        draft.wait("a connection", tuple(map(holding, holders)), lines.line_here())


def _taken(recorder: Kept, event: events.ConnectionTaken) -> None:
    draft = recorder.draft(event.unit)
    draft.waited(granted=event.error is None)
    if event.error is not None:
        line = lines.line_here()
        draft.because(
            (f"{reasons.describe(event.error, event.unit)} raised at {lines.told(line)}", line)
        )
        return
    draft.begin(autocommit=event.unit.is_alone)
    if draft.held_since is None:
        draft.held_since = perf_counter()


def _begun(recorder: Kept, event: events.TransactionBegun) -> None:
    draft = recorder.draft(event.unit)
    draft.waited()
    draft.begin(autocommit=False)
    draft.held_since = perf_counter()


def _returned(recorder: Kept, event: events.ConnectionReturned) -> None:
    draft = recorder.draft(event.unit)
    draft.act(None)
    draft.returned()
    transaction = draft.transaction
    if transaction is None:
        return
    transaction.ended = perf_counter()
    if transaction.outcome is None:
        kept = records.COMMITTED if event.committed else records.ROLLED_BACK
        transaction.outcome = records.UNKNOWN if event.unit.commit.is_lost else kept


def _turn_wanted(recorder: Kept, event: events.WriteTurnWanted) -> None:
    writer = recorder.drafts.get(event.writer)
    whom = name_of(event.writer.scope) if writer is None else holding(writer)
    recorder.draft(event.unit).wait("the turn to write", (whom,), lines.line_here())


def _turn_taken(recorder: Kept, event: events.WriteTurnTaken) -> None:
    recorder.draft(event.unit).waited(granted=event.granted)


def _lock_wanted(recorder: Kept, event: events.AdvisoryLockWanted) -> None:
    whom = tuple(name for key, name in recorder.locks.values() if key == event.key)
    if event.unit is not None:
        recorder.draft(event.unit).wait(f"the lock {event.key!r}", whom, lines.line_here())
    recorder.wanted[event.lock] = event


def _lock_taken(recorder: Kept, event: events.AdvisoryLockTaken) -> None:
    wanted = recorder.wanted.pop(event.lock, None)
    if wanted is None:
        return
    if wanted.unit is not None:
        recorder.draft(wanted.unit).waited(granted=event.error is None)
    if event.error is None:
        whom = "what is in no scope" if wanted.scope is None else name_of(wanted.scope)
        recorder.locks[event.lock] = (wanted.key, whom)


def _lock_released(recorder: Kept, event: events.AdvisoryLockReleased) -> None:
    recorder.locks.pop(event.lock, None)


def who() -> Any:
    """Return the task that runs here, or the number of the thread."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return task if task is not None else threading.get_ident()


HANDLERS: dict[type[Event], Callable[[Any, Any], None]] = {
    events.ConnectionWanted: _wanted,
    events.ConnectionTaken: _taken,
    events.TransactionBegun: _begun,
    events.ConnectionReturned: _returned,
    events.WriteTurnWanted: _turn_wanted,
    events.WriteTurnTaken: _turn_taken,
    events.AdvisoryLockWanted: _lock_wanted,
    events.AdvisoryLockTaken: _lock_taken,
    events.AdvisoryLockReleased: _lock_released,
}
