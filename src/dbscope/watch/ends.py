"""How the recorder hears of what became of the work, and why: each call has an event's fields."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from dbscope.errors import UnexpectedRollback
from dbscope.unit.block import Outcome
from dbscope.unit.callsite import Place
from dbscope.watch import events, lines, reasons, records, text_savepoints
from dbscope.watch.drafts import Draft
from dbscope.watch.statements import keep_unread

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.unit.block import Block
    from dbscope.unit.unit import Unit
    from dbscope.watch.events import Event
    from dbscope.watch.kept import Kept


def _commit_sent(recorder: Kept, unit: Unit) -> None:
    draft = recorder.drafts[unit]
    draft.act(None)
    keep_unread(draft)
    if draft.transaction is not None:
        draft.transaction.sent = perf_counter()


def _decided(
    recorder: Kept, unit: Unit, keep: bool, error: BaseException | None, status: int | None
) -> None:
    if unit not in recorder.drafts and unit.session is None:
        return
    draft = recorder.drafts[unit]
    if keep:
        if draft.asked is not None and (unit.doomed or is_to_roll_back(unit)):
            draft.because(draft.asked)
            _leave_unsent(draft)
        draft.is_on_purpose = (status or 0) >= records.FIRST_ERROR
        return
    _leave_unsent(draft)
    if isinstance(error, UnexpectedRollback) and draft.swallowed:
        draft.because(draft.swallowed)
    elif error is not None:
        draft.because(reasons.of_error(error, unit))
    elif status is not None:
        draft.because(reasons.of_answer(status, getattr(unit.scope, "asgi", {})))


def _leave_unsent(draft: Draft) -> None:
    """Note what was added, and will never be sent."""
    if draft.unit.session is not None:
        for each in draft.unit.session.new:
            name = type(each).__name__
            draft.pending[name] = draft.pending.get(name, 0) + 1


def _asked(recorder: Kept, unit: Unit, how: str) -> None:
    draft, line = recorder.drafts[unit], lines.line_here()
    why = f"{how} called at {lines.told(line)}", line
    if how in BY_HAND:
        draft.by_hand = draft.by_hand or why  # async code comes here again, in a task of its own
    else:
        draft.asked = why


def _committed(recorder: Kept, unit: Unit, by_hand: bool) -> None:
    _end(recorder, unit, records.COMMITTED, by_hand=by_hand)


def _rolled_back(recorder: Kept, unit: Unit, by_hand: bool) -> None:
    _end(recorder, unit, records.ROLLED_BACK, by_hand=by_hand)


BY_HAND = frozenset({"commit()", "rollback()"})


def _end(recorder: Kept, unit: Unit, outcome: str, *, by_hand: bool) -> None:
    draft = recorder.drafts[unit]
    transaction = draft.transaction
    if transaction is None:
        return
    # Who was told first knows: ROLLBACK behind a transaction that is over undoes nothing.
    transaction.outcome = transaction.outcome or outcome
    why = draft.left or draft.asked
    if outcome == records.ROLLED_BACK and why is not None:
        draft.because(why)
    if by_hand:
        asked, draft.by_hand = draft.by_hand, None
        transaction.is_by_hand = True
        transaction.by_hand = asked[1] if asked else lines.line_here()
        if outcome == records.ROLLED_BACK:
            draft.because(asked or ("rolled back by hand", transaction.by_hand))


def _commit_failed(recorder: Kept, unit: Unit, error: BaseException) -> None:
    draft = recorder.drafts[unit]
    draft.failed = True
    transaction = draft.transactions[-1] if draft.transactions else None
    is_before = transaction is None or transaction.sent is None
    told, line = reasons.describe(error, unit), lines.line_of(error)
    is_flush = is_before and bool(draft.writes) and draft.writes[-1].error is not None
    before = "the flush before it failed: " if is_flush else "before it was sent: "
    draft.reason = f"{before}{told}" if is_before else told
    wrote = [sent for sent in draft.writes if sent.line is not None]
    draft.line = wrote[-1].line if wrote and not is_before else line
    if wrote and not is_before:
        draft.reason += f", last written at {lines.told(draft.line)}"


def _unknown(recorder: Kept, unit: Unit, error: BaseException) -> None:
    draft = recorder.drafts[unit]
    draft.reason, draft.line = reasons.of_unknown(error), lines.line_of(error)
    if draft.transactions:
        draft.transactions[-1].outcome = records.UNKNOWN


def _verified(recorder: Kept, unit: Unit, outcome: Outcome) -> None:
    draft = recorder.drafts[unit]
    draft.reason = f"the answer to COMMIT was lost, and the server says: {outcome.value}"
    if draft.transactions:
        draft.transactions[-1].outcome = outcome.value
    draft.failed = outcome is Outcome.ROLLED_BACK
    draft.is_verified = True


def _partly(recorder: Kept, unit: Unit, error: BaseException) -> None:
    draft = recorder.drafts[unit]
    draft.is_partly = True
    kept = {"committed": "committed", "rolled_back": "rolled back", "unknown": "unknown"}
    found = [(told, getattr(error, name, ())) for name, told in kept.items()]
    outcomes = ", ".join(f"{told}: {' and '.join(names)}" for told, names in found if names)
    draft.reason = outcomes if draft.reason is None else f"{outcomes}; {draft.reason}"


def _key_found(recorder: Kept, unit: Unit) -> None:
    draft = recorder.drafts[unit]
    now = len(draft.transactions) - 1
    draft.writes = [sent for sent in draft.writes if sent.transaction != now]


def _savepoint(recorder: Kept, unit: Unit, block: Block | None) -> None:
    if block is not None:
        text_savepoints.adopt(recorder.drafts[unit], block)


def _block_left(recorder: Kept, unit: Unit, block: Block, error: BaseException | None) -> None:
    draft = recorder.drafts.get(unit)
    if draft is None or error is None:
        return
    told, line = reasons.of_error(error, unit)
    if line is None:  # of a timer, say, which has raised it nowhere
        line = block.where if isinstance(block.where, Place) else None
        told = told if line is None else f"{told} in the block of {lines.told(line)}"
    draft.left = (told, line)
    if block.parent is None:
        draft.root = id(block)
        draft.because(draft.left)
    else:
        for entered in draft.savepoints:
            if entered.block is block:
                entered.reason = draft.left[0]


def _block_ended(recorder: Kept, unit: Unit, block: Block, outcome: Outcome) -> None:
    draft = recorder.drafts.get(unit)
    if draft is None:
        return
    for entered in draft.savepoints:
        if entered.block is block:
            entered.ended, entered.block = perf_counter(), None
            entered.outcome = "released" if outcome is Outcome.COMMITTED else records.ROLLED_BACK
            if outcome is not Outcome.COMMITTED and entered.reason is None and draft.asked:
                (entered.reason, _), draft.asked = draft.asked, None
            draft.savepoint = entered.around


def _swallowed(recorder: Kept, unit: Unit, block: Block) -> None:
    fault = block.fault
    if fault is not None:
        why, line = reasons.of_error(fault, unit)
        recorder.drafts[unit].swallowed = (f"a failure was swallowed: {why}", line)


def is_to_roll_back(unit: Unit) -> bool:
    """Tell whether the root of a unit was said to be rolled back."""
    return bool(unit.blocks) and unit.blocks[0].rollback_only


HANDLERS: dict[type[Event], Callable[..., None]] = {
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
