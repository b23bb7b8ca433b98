"""How the recorder hears of connections, of waiting, and of who is waited for.

Each call has the fields of an event.
"""

from __future__ import annotations

import asyncio
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbscope.watch import events, lines, reasons, records
from dbscope.watch.drafts import holding, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from dbscope.unit.current import Scope
    from dbscope.unit.unit import Unit
    from dbscope.watch.events import Event
    from dbscope.watch.kept import Kept


def _wanted(recorder: Kept, unit: Unit, engine: Engine, is_full: bool) -> None:
    draft = recorder.drafts[unit]
    draft.who = who()
    if is_full:
        holders = recorder.holders(engine)
        draft.wait("a connection", tuple(map(holding, holders)), lines.line_here())


def _taken(recorder: Kept, unit: Unit, error: BaseException | None) -> None:
    draft = recorder.drafts[unit]
    draft.waited(granted=error is None)
    if error is not None:
        line = lines.line_here()
        draft.because((f"{reasons.describe(error, unit)} raised at {lines.told(line)}", line))
        return
    draft.begin(autocommit=unit.is_alone)
    if draft.held_since is None:
        draft.held_since = perf_counter()


def _begun(recorder: Kept, unit: Unit) -> None:
    draft = recorder.drafts[unit]
    draft.waited()
    draft.begin(autocommit=False)
    draft.held_since = perf_counter()


def _returned(recorder: Kept, unit: Unit, committed: bool) -> None:
    draft = recorder.drafts[unit]
    draft.act(None)
    draft.returned()
    transaction, draft.transaction = draft.transaction, None
    if transaction is None:
        return
    transaction.ended = perf_counter()
    if transaction.outcome is None:
        kept = records.COMMITTED if committed else records.ROLLED_BACK
        transaction.outcome = records.UNKNOWN if unit.commit.is_lost else kept


def _turn_wanted(recorder: Kept, unit: Unit, writer: Unit) -> None:
    held = recorder.drafts.get(writer)
    whom = name_of(writer.scope) if held is None else holding(held)
    recorder.drafts[unit].wait("the turn to write", (whom,), lines.line_here())


def _turn_taken(recorder: Kept, unit: Unit, granted: bool) -> None:
    recorder.drafts[unit].waited(granted=granted)


def _lock_wanted(
    recorder: Kept, scope: Scope | None, unit: Unit | None, lock: object, key: str
) -> None:
    whom = tuple(name for held, name in recorder.locks.values() if held == key)
    if unit is not None:
        recorder.drafts[unit].wait(f"the lock {key!r}", whom, lines.line_here())
    recorder.wanted[lock] = (scope, unit, key)


def _lock_taken(recorder: Kept, lock: object, error: BaseException | None) -> None:
    scope, unit, key = recorder.wanted.pop(lock, (None, None, None))
    if key is None:
        return
    if unit is not None:
        recorder.drafts[unit].waited(granted=error is None)
    if error is None:
        whom = "what is in no scope" if scope is None else name_of(scope)
        recorder.locks[lock] = (key, whom)


def _lock_released(recorder: Kept, lock: object) -> None:
    recorder.locks.pop(lock, None)


def who() -> Any:
    """Return the task that runs here, or the number of the thread."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return task if task is not None else threading.get_ident()


HANDLERS: dict[type[Event], Callable[..., None]] = {
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
