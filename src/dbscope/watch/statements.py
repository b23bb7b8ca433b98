"""How the recorder hears of statements: they are many, so each is noted by few calls."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbscope.errors import ProblemFound
from dbscope.watch import lines, reasons, text_savepoints
from dbscope.watch.dispatch import DirectListener, complain
from dbscope.watch.drafts import MOST, SHORTEST, Draft
from dbscope.watch.events import StatementBegun, StatementEnded
from dbscope.watch.kept import Kept
from dbscope.watch.loads import LOADING, NOTHING
from dbscope.watch.parts import Sent
from dbscope.watch.sent import rows_of, shortened

if TYPE_CHECKING:
    from dbscope.unit.unit import Unit
    from dbscope.watch.parts import Asked

# They are told as transactions and savepoints.
UNTOLD = frozenset({"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"})


class StatementRecorder(Kept, DirectListener):
    """Notes statements in their drafts."""

    # Near the session it is near; at the driver it is twenty frames away.
    here = staticmethod(lines.line_here)

    def begin(self, unit: Unit, sql: str, parameters: Any, context: Any) -> Draft | None:
        """Note a statement that is about to be sent, and return where."""
        try:
            draft = self.drafts[unit]
            if draft.unread is not None:
                keep_unread(draft)
            asked: Asked | None = unit.asked
            line = lines.line_here() if asked is None else asked[2]
            parsed, now = unit.source.watching.statements[sql], perf_counter()
            since = draft.idle_since
            if draft.awaited is not None or (since is not None and now - since >= SHORTEST):
                draft.act(line, now)
            draft.idle_since = None
            if draft.transaction is None:
                draft.begin(autocommit=unit.is_alone)
            place = len(draft.transactions) - 1
            values = shortened(parameters) if self.values else None
            sent = draft.current = Sent(parsed, line, now, place, draft.savepoint, values)
            if parsed.kind == "SELECT":
                query = sent, asked, parameters, context.compiled
                given = NOTHING if asked is None else asked[1].get("execution_options") or NOTHING
                if LOADING in given or self.finder.strict is not None:
                    self.finder.look(draft.seen, query)
                else:
                    draft.seen.unread.append(query)
        except ProblemFound:
            self.drafts[unit].current = None  # it is not sent
            raise
        except Exception as failure:
            complain(StatementBegun, failure)
            return self.drafts.get(unit)
        return draft

    def end(self, noted: Draft | None, context: Any, error: BaseException | None) -> None:
        """Note that its answer is here."""
        if noted is None or (sent := noted.current) is None:
            return
        draft, noted.current, parsed = noted, None, sent.sql
        sent.ended = draft.idle_since = perf_counter()
        draft.idle_line = sent.line
        try:
            if error is not None:
                sent.error = reasons.describe(error, draft.unit)
            elif not parsed.defines:
                sent.rows = rows_of(context)
            else:
                sent.at_once = draft.unit.source.watching.commits_definitions
            if draft.waiting is not None:
                draft.waited(granted=error is None)
            if parsed.kind == "SELECT" and len(draft.statements) < MOST:
                draft.statements.append(sent)
            else:
                _end_other(draft, sent, context)
        except Exception as failure:
            complain(StatementEnded, failure)


def _end_other(draft: Draft, sent: Sent, context: Any) -> None:
    if sent.rows == 0 and sent.sql.writes and draft.unit.source.driver.counts_late:
        draft.unread = (sent, context.cursor)
    elif sent.sql.kind not in UNTOLD:
        _keep(draft, sent)
    elif sent.error is None and sent.sql.kind in text_savepoints.KINDS:
        text_savepoints.note(draft, sent, context.statement)


def keep_unread(draft: Draft) -> None:
    """Keep a statement whose rows its driver had not counted yet."""
    if draft.unread is not None:
        (sent, cursor), draft.unread = draft.unread, None
        sent.rows = cursor.rowcount
        _keep(draft, sent)


def _keep(draft: Draft, sent: Sent) -> None:
    is_kept = len(draft.statements) < MOST
    if sent.sql.writes:
        _count(draft, sent, is_kept=is_kept)
    if is_kept:
        draft.statements.append(sent)
    else:
        draft.more += 1
        draft.seen.read()  # so that only so many wait to be looked at


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
