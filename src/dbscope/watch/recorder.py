"""The listener that makes records of what happens."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dbscope.watch import ends, events, sent, waits
from dbscope.watch.dispatch import call
from dbscope.watch.records import Record
from dbscope.watch.sealed import sealed
from dbscope.watch.statements import StatementRecorder, keep_unread

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.unit.current import Scope
    from dbscope.unit.unit import Unit
    from dbscope.watch.drafts import Draft
    from dbscope.watch.events import Event


class Recorder(StatementRecorder):
    """Keeps the last records in a ring.

    Args:
        keep: how many.
        values: keep the parameters of statements, shortened; else none of them is.
        on_record: functions that are called with each record.
    """

    def __init__(
        self, keep: int, *, values: bool, on_record: list[Callable[[Record], object]]
    ) -> None:
        super().__init__(keep, values=values)
        self.on_record = on_record

    def hearers(self) -> dict[type[Event], Callable[..., None]]:
        """Return what is called for each kind of event."""
        return {kind: partial(handler, self) for kind, handler in HANDLERS.items()}

    def on_end(self, unit: Unit) -> None:
        """Make a record of a unit that is over; that of a request waits for its answer."""
        draft = self.drafts.pop(unit, None)
        if draft is None or draft.is_empty:
            return
        if draft.kind == "request":
            self.unanswered.setdefault(unit.scope, []).append(draft)
        else:
            self._keep(draft)

    def _keep(self, draft: Draft) -> None:
        keep_unread(draft)
        record = sealed(draft)
        draft.current = None  # one that is still under way is not noted in what is shared with it
        self.ring.append(record)
        if draft.root is not None:
            self.ended.append((draft.root, record))
        call(record, self.on_record)

    def on_answered(self, scope: Scope, status: int) -> None:
        """Make the records of a request that is answered now."""
        for draft in self.unanswered.pop(scope, ()):
            draft.status = status
            self._keep(draft)

    def on_scope_ended(self, scope: Scope) -> None:
        """Make the records of a request that was not answered by us."""
        for draft in self.unanswered.pop(scope, ()):
            draft.status = None if draft.again else 500  # what a server answers to an error
            self._keep(draft)


HANDLERS: dict[type[Event], Callable[..., None]] = {
    events.UnitRenewed: Recorder.on_end,
    events.UnitClosed: Recorder.on_end,
    events.Answered: Recorder.on_answered,
    events.ScopeEnded: Recorder.on_scope_ended,
    **waits.HANDLERS,
    **sent.HANDLERS,
    **ends.HANDLERS,
}
