"""The listener that makes records of what happens."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from dbscope.watch import ends, events, sent, waits
from dbscope.watch.drafts import Draft
from dbscope.watch.events import Event
from dbscope.watch.problems import Finder, of_record
from dbscope.watch.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.unit.current import Scope
    from dbscope.unit.unit import Unit
    from dbscope.watch.events import Event

SOON = 64  # records, until which somebody says that the work is done again


class Recorder:
    """Keeps the last records in a ring.

    Args:
        keep: how many.
        values: keep the parameters of statements, shortened; else none of them is.
    """

    def __init__(self, keep: int, *, values: bool) -> None:
        self.ring: deque[Record] = deque(maxlen=keep)
        self.values = values
        self.drafts: dict[Unit, Draft] = {}
        self.unanswered: dict[Scope, list[Draft]] = {}
        self.wanted: dict[Any, events.AdvisoryLockWanted] = {}
        self.locks: dict[Any, tuple[str, str]] = {}  # advisory ones that are held: key, by whom
        self.on_record: list[Callable[[Record], object]] = []
        self.finder = Finder()
        self._numbers = count(1)
        self._ended: deque[tuple[int, Record]] = deque(maxlen=SOON)

    def __call__(self, event: Event) -> None:
        """Take an event."""
        handler = HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def draft(self, unit: Unit) -> Draft:
        """Return what is known of a unit so far."""
        draft = self.drafts.get(unit)
        if draft is None:
            draft = self.drafts[unit] = Draft(unit, next(self._numbers), kind_of(unit))
        return draft

    def all_drafts(self) -> list[Draft]:
        """Return all that are not over, or not answered yet."""
        return [*self.drafts.values(), *chain.from_iterable(self.unanswered.values())]

    def note_again(self, block: object) -> None:
        """Note that what this block did is done again: its scope has ended just before."""
        for root, record in self._ended:
            if root == id(block) and record in self.ring:
                self.ring[self.ring.index(record)] = replace(record, again=True)

    def on_end(self, event: events.UnitEvent) -> None:
        """Make a record of a unit that is over; that of a request waits for its answer."""
        unit = event.unit
        draft = self.drafts.pop(unit, None)
        if draft is None or draft.is_empty:
            return
        if draft.kind == "request":
            self.unanswered.setdefault(unit.scope, []).append(draft)
        else:
            self._keep(draft)

    def _keep(self, draft: Draft) -> None:
        record = draft.record()
        if late := of_record(record):
            record = replace(record, problems=(*record.problems, *late))
        self.ring.append(record)
        if draft.root is not None:
            self._ended.append((draft.root, record))
        for function in tuple(self.on_record):
            function(record)

    def on_answered(self, event: events.Answered) -> None:
        """Make the records of a request that is answered now."""
        for draft in self.unanswered.pop(event.scope, ()):
            draft.status = event.status
            self._keep(draft)

    def on_scope_ended(self, event: events.ScopeEnded) -> None:
        """Make the records of a request that was not answered by us."""
        for draft in self.unanswered.pop(event.scope, ()):
            draft.status = None if draft.again else 500  # what a server answers to an error
            self._keep(draft)

    def holders(self, engine: Any) -> list[Draft]:
        """Return who holds a connection now, who has it for longest first."""
        held = [
            draft
            for draft in tuple(self.drafts.values())
            if draft.held_since is not None
            and (connection := draft.unit.connection) is not None
            and (engine is None or connection.engine.pool is engine.pool)
        ]
        return sorted(held, key=lambda draft: draft.held_since or 0.0)


def kind_of(unit: Unit) -> str:
    """Return what the scope of a unit is: of a request, its tail is another piece of work."""
    scope = unit.scope
    if scope.is_hook:
        return "hook"
    if scope.kind == "request" and getattr(scope, "started", False):
        return "tail"
    if scope.kind == "scope" and scope.parent is None and unit.source.has_sandbox():
        return "test"
    return scope.kind


HANDLERS: dict[type[Event], Callable[[Recorder, Any], None]] = {
    events.UnitRenewed: Recorder.on_end,
    events.UnitClosed: Recorder.on_end,
    events.Answered: Recorder.on_answered,
    events.ScopeEnded: Recorder.on_scope_ended,
    **waits.HANDLERS,
    **sent.HANDLERS,
    **ends.HANDLERS,
}
