"""How the recorder hears of what became of the work, and why."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbscope.errors import UnexpectedRollback
from dbscope.unit.block import Outcome
from dbscope.unit.callsite import Place
from dbscope.watch import events, lines, reasons, records, text_savepoints
from dbscope.watch.drafts import Draft
from dbscope.watch.statements import keep_unread

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.unit.unit import Unit
    from dbscope.watch.events import Event
    from dbscope.watch.kept import Kept


def _commit_sent(recorder: Kept, event: events.CommitSent) -> None:
    draft = recorder.draft(event.unit)
    draft.act(None)
    keep_unread(draft)
    if draft.transaction is not None:
        draft.transaction.sent = perf_counter()


def _decided(recorder: Kept, event: events.Decided) -> None:
    unit = event.unit
    if unit not in recorder.drafts and unit.session is None:
        return
    draft = recorder.draft(unit)
    if event.keep:
        if draft.asked is not None and (unit.doomed or is_to_roll_back(unit)):
            draft.because(draft.asked)
            _leave_unsent(draft)
        draft.is_on_purpose = (event.status or 0) >= records.FIRST_ERROR
        return
    _leave_unsent(draft)
    if isinstance(event.error, UnexpectedRollback) and draft.swallowed:
        draft.because(draft.swallowed)
    elif event.error is not None:
        draft.because(reasons.of_error(event.error, event.unit))
    elif event.status is not None:
        draft.because(reasons.of_answer(event.status, getattr(unit.scope, "asgi", {})))


def _leave_unsent(draft: Draft) -> None:
    """Note what was added, and will never be sent."""
    if draft.unit.session is not None:
        for each in draft.unit.session.new:
            name = type(each).__name__
            draft.pending[name] = draft.pending.get(name, 0) + 1


def _asked(recorder: Kept, event: events.EndAsked) -> None:
    draft, line = recorder.draft(event.unit), lines.line_here()
    why = f"{event.how} called at {lines.told(line)}", line
    if event.how in BY_HAND:
        draft.by_hand = draft.by_hand or why  # async code comes here again, in a task of its own
    else:
        draft.asked = why


def _committed(recorder: Kept, event: events.Committed) -> None:
    _end(recorder, event.unit, records.COMMITTED, by_hand=event.by_hand)


def _rolled_back(recorder: Kept, event: events.RolledBack) -> None:
    _end(recorder, event.unit, records.ROLLED_BACK, by_hand=event.by_hand)


BY_HAND = frozenset({"commit()", "rollback()"})


def _end(recorder: Kept, unit: Unit, outcome: str, *, by_hand: bool) -> None:
    draft = recorder.draft(unit)
    transaction = draft.transaction
    if transaction is None:
        return
    # Who was told first knows: ROLLBACK behind a transaction that is over undoes nothing.
    transaction.outcome = transaction.outcome or outcome
    if outcome == records.ROLLED_BACK and draft.left is not None:
        draft.because(draft.left)
    if by_hand:
        asked, draft.by_hand = draft.by_hand, None
        transaction.is_by_hand = True
        transaction.by_hand = asked[1] if asked else lines.line_here()
        if outcome == records.ROLLED_BACK:
            draft.because(asked or ("rolled back by hand", transaction.by_hand))


def _commit_failed(recorder: Kept, event: events.CommitFailed) -> None:
    draft = recorder.draft(event.unit)
    draft.failed = True
    transaction = draft.transactions[-1] if draft.transactions else None
    is_before = transaction is None or transaction.sent is None
    told, line = reasons.describe(event.error, event.unit), lines.line_of(event.error)
    is_flush = is_before and bool(draft.writes) and draft.writes[-1].error is not None
    before = "the flush before it failed: " if is_flush else "before it was sent: "
    draft.reason = f"{before}{told}" if is_before else told
    wrote = [sent for sent in draft.writes if sent.line is not None]
    draft.line = wrote[-1].line if wrote and not is_before else line
    if wrote and not is_before:
        draft.reason += f", last written at {lines.told(draft.line)}"


def _unknown(recorder: Kept, event: events.OutcomeUnknown) -> None:
    draft = recorder.draft(event.unit)
    draft.reason, draft.line = reasons.of_unknown(event.error), lines.line_of(event.error)
    if draft.transactions:
        draft.transactions[-1].outcome = records.UNKNOWN


def _verified(recorder: Kept, event: events.OutcomeVerified) -> None:
    draft = recorder.draft(event.unit)
    outcome = event.outcome.value
    draft.reason = f"the answer to COMMIT was lost, and the server says: {outcome}"
    if draft.transactions:
        draft.transactions[-1].outcome = outcome
    draft.failed = event.outcome is Outcome.ROLLED_BACK
    draft.is_verified = True


def _partly(recorder: Kept, event: events.PartlyCommitted) -> None:
    draft, error = recorder.draft(event.unit), event.error
    draft.is_partly = True
    kept = {"committed": "committed", "rolled_back": "rolled back", "unknown": "unknown"}
    found = [(told, getattr(error, name, ())) for name, told in kept.items()]
    outcomes = ", ".join(f"{told}: {' and '.join(names)}" for told, names in found if names)
    draft.reason = outcomes if draft.reason is None else f"{outcomes}; {draft.reason}"


def _key_found(recorder: Kept, event: events.KeyFound) -> None:
    draft = recorder.draft(event.unit)
    now = len(draft.transactions) - 1
    draft.writes = [sent for sent in draft.writes if sent.transaction != now]


def _savepoint(recorder: Kept, event: events.SavepointBegun) -> None:
    if event.block is not None:
        text_savepoints.adopt(recorder.draft(event.unit), event.block)


def _block_left(recorder: Kept, event: events.BlockLeft) -> None:
    draft = recorder.drafts.get(event.unit)
    if draft is None or event.error is None:
        return
    told, line = reasons.of_error(event.error, event.unit)
    if line is None:  # of a timer, say, which has raised it nowhere
        line = event.block.where if isinstance(event.block.where, Place) else None
        told = told if line is None else f"{told} in the block of {lines.told(line)}"
    draft.left = (told, line)
    if event.block.parent is None:
        draft.root = id(event.block)
        draft.because(draft.left)
    else:
        for entered in draft.savepoints:
            if entered.block is event.block:
                entered.reason = draft.left[0]


def _block_ended(recorder: Kept, event: events.BlockEnded) -> None:
    draft = recorder.drafts.get(event.unit)
    if draft is None:
        return
    for entered in draft.savepoints:
        if entered.block is event.block:
            entered.ended, entered.block = perf_counter(), None
            entered.outcome = (
                "released" if event.outcome is Outcome.COMMITTED else records.ROLLED_BACK
            )
            draft.savepoint = entered.around


def _swallowed(recorder: Kept, event: events.FailureSwallowed) -> None:
    fault = event.block.fault
    if fault is not None:
        why, line = reasons.of_error(fault, event.unit)
        recorder.draft(event.unit).swallowed = (f"a failure was swallowed: {why}", line)


def is_to_roll_back(unit: Unit) -> bool:
    """Tell whether the root of a unit was said to be rolled back."""
    return bool(unit.blocks) and unit.blocks[0].rollback_only


HANDLERS: dict[type[Event], Callable[[Any, Any], None]] = {
    events.CommitSent: _commit_sent,
    events.Decided: _decided,
    events.EndAsked: _asked,
    events.Committed: _committed,
    events.RolledBack: _rolled_back,
    events.CommitFailed: _commit_failed,
    events.OutcomeUnknown: _unknown,
    events.OutcomeVerified: _verified,
    events.PartlyCommitted: _partly,
    events.KeyFound: _key_found,
    events.SavepointBegun: _savepoint,
    events.BlockLeft: _block_left,
    events.BlockEnded: _block_ended,
    events.FailureSwallowed: _swallowed,
}
