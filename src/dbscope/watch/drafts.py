"""What is known so far of a scope that has not ended: it becomes a record."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from dbscope.unit.block import Block
from dbscope.unit.callsite import Place
from dbscope.watch import lines, records
from dbscope.watch.records import Gap, HookRun, Record, Savepoint, Sent, Transaction, Wait

if TYPE_CHECKING:
    from dbscope.unit.unit import Unit

MOST = 500  # statements of a scope that are kept; the others are counted
SHORTEST = 0.02  # seconds: a gap that is worth keeping
Line = Place | str | None


@dataclass(slots=True)
class Begun:
    """A transaction."""

    began: float
    autocommit: bool
    outcome: str | None = None
    by_hand: Line = None
    is_by_hand: bool = False
    sent: float | None = None  # COMMIT
    ended: float | None = None


@dataclass(slots=True)
class Entered:
    """A savepoint."""

    block: Block | None
    began: float
    around: int | None  # its place among the savepoints
    line: Line
    ended: float | None = None
    outcome: str = "open"
    reason: str | None = None


class Draft:
    """One unit of one scope, as long as it is not over."""

    def __init__(self, unit: Unit, number: int, kind: str) -> None:
        self.unit = unit
        self.scope = unit.scope
        self.number = number
        self.kind = kind
        self.began = perf_counter()
        self.epoch = time()
        self.status: int | None = None
        self.reason: str | None = None
        self.line: Line = None
        self.swallowed: tuple[str, Line] | None = None
        self.asked: tuple[str, Line] | None = None
        self.by_hand: tuple[str, Line] | None = None
        self.root: int | None = None  # the id of the block that failed
        self.left: tuple[str, Line] | None = None  # a block, by an error
        self.is_partly = self.failed = self.again = self.is_verified = False
        self.statements: list[Sent] = []
        self.more = 0
        self.transactions: list[Begun] = []
        self.savepoints: list[Entered] = []
        self.savepoint: int | None = None  # the innermost that is open
        self.waits: list[Wait] = []
        self.waiting: tuple[str, float, tuple[str, ...], Line] | None = None
        self.gaps: list[Gap] = []
        self.hooks: list[HookRun] = []
        self.hook_began = 0.0
        self.flushed: Counter[tuple[str, int]] = Counter()
        self.pending: Counter[str] = Counter()
        self.held_since: float | None = None
        self.held = 0.0
        self.idle_since: float | None = None
        self.idle_line: Line = None
        self.awaited: str | None = None
        self.current: Sent | None = None
        self.writes: list[Sent] = []
        self.uncounted: dict[Any, Sent] = {}  # those beyond the ones that are kept, added up
        self.is_on_purpose = False  # kept though the answer tells of an error
        self.who: Any = None  # the task, or the number of the thread
        self.seen: Any = None  # what it has loaded, for who looks for problems
        attempts = unit.scope.attempts
        self.before: tuple[str, ...] = () if attempts is None else attempts.codes
        self.attempt = len(self.before) + 1

    # -- while it goes on ----------------------------------------------------------------------

    @property
    def transaction(self) -> Begun | None:
        """Return the transaction that goes on."""
        last = self.transactions[-1] if self.transactions else None
        return None if last is None or last.ended is not None else last

    def begin(self, *, autocommit: bool) -> None:
        """Note that a transaction has begun."""
        if self.transaction is None:
            self.transactions.append(Begun(perf_counter(), autocommit))

    def because(self, why: tuple[str, Line]) -> None:
        """Note why its work is not kept; the first reason counts."""
        if self.reason is None:
            self.reason, self.line = why

    def wait(self, what: str, whom: tuple[str, ...], line: Line) -> None:
        """Note that it begins to wait for somebody."""
        self.waiting = (what, perf_counter(), whom, line)

    def waited(self, *, granted: bool = True) -> None:
        """Note that it has waited."""
        if self.waiting is None:
            return
        what, since, whom, line = self.waiting
        self.waiting = None
        now = perf_counter()
        told = lines.told(line)
        self.waits.append(Wait(what, since - self.began, now - since, whom, told, granted))

    def act(self, line: Line, now: float | None = None) -> None:
        """Note that it uses its connection again: what was between was a gap."""
        since, self.idle_since = self.idle_since, None
        awaited, self.awaited = self.awaited, None
        if since is None:
            return
        seconds = (now or perf_counter()) - since
        if seconds >= SHORTEST or awaited is not None:
            after, before = lines.told(self.idle_line), lines.told(line)
            self.gaps.append(Gap(since - self.began, seconds, after, before, awaited))

    def returned(self) -> None:
        """Note that it has given its connection back."""
        if self.held_since is not None:
            self.held += perf_counter() - self.held_since
        self.held_since = self.idle_since = self.awaited = None

    # -- when it is over -----------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing has happened that is worth a record."""
        return not (self.transactions or self.waits or self.pending or self.hooks)

    def outcome(self) -> str:
        """Return what became of it, as a whole."""
        ends = [each.outcome for each in self.transactions]
        if self.is_partly:
            return records.PARTLY
        if records.UNKNOWN in ends:
            return records.UNKNOWN
        if self.failed:
            return records.COMMIT_FAILED
        if records.ROLLED_BACK in ends[-1:] or self.pending:
            return records.ROLLED_BACK
        if not ends:
            return records.NOTHING if self.reason is None else records.ROLLED_BACK
        return records.COMMITTED if self.amounts(stored=True) else records.READ

    def is_stored(self, sent: Sent) -> bool:
        """Tell whether what a statement has written is kept."""
        inside = sent.savepoint
        while inside is not None:
            if self.savepoints[inside].outcome == records.ROLLED_BACK:
                return False
            inside = self.savepoints[inside].around
        return self.transactions[sent.transaction].outcome == records.COMMITTED

    def amounts(self, *, stored: bool) -> tuple[tuple[str, int], ...]:
        """Return what was written and is kept, or is not, as rows of each kind and table."""
        counted: Counter[str] = Counter()
        for sent in self.writes:
            wrote = sent.error is None and sent.rows != 0
            if wrote and self.is_stored(sent) is stored:
                rows = 1 if sent.rows is None or sent.rows < 0 else sent.rows
                into = " into" if sent.sql.kind == "INSERT" else ""
                into = " from" if sent.sql.kind == "DELETE" else into
                counted[f"{sent.sql.kind}{into} {sent.sql.table or '?'}"] += rows
        return tuple(counted.items())

    def record(self) -> Record:
        """Return the record, which nobody changes any more."""
        if self.swallowed is not None:
            self.because(self.swallowed)
        for each in self.transactions:
            each.outcome = each.outcome or records.ROLLED_BACK
        outcome = self.outcome()
        is_kept = outcome in {records.COMMITTED, records.READ, records.NOTHING}
        return Record(
            number=self.number,
            kind=self.kind,
            name=name_of(self.scope),
            route=route_of(self.scope),
            database=self.unit.source.name,
            began=self.epoch,
            seconds=perf_counter() - self.began,
            status=self.status,
            outcome=outcome,
            reason=None if is_kept and not self.is_verified else self.reason,
            line=lines.told(self.line),
            sent=tuple(self.statements),
            zero=self.began,
            more=self.more,
            transactions=tuple(map(self._transaction, self.transactions)),
            savepoints=tuple(map(self._savepoint, self.savepoints)),
            waits=tuple(self.waits),
            gaps=tuple(self.gaps),
            hooks=tuple(self.hooks),
            flushed=self._flushed(),
            pending=tuple(self.pending.items()),
            not_stored=self.amounts(stored=False),
            stored=self.amounts(stored=True),
            attempt=self.attempt,
            before=self.before,
            again=self.again,
            held=self.held,
            is_on_purpose=self.is_on_purpose,
            problems=() if self.seen is None else tuple(self.seen.problems()),
        )

    def _transaction(self, begun: Begun) -> Transaction:
        ended = begun.ended or perf_counter()
        commit = None if begun.sent is None else ended - begun.sent
        by_hand = (lines.told(begun.by_hand) or "") if begun.is_by_hand else None
        outcome, at = begun.outcome or records.ROLLED_BACK, begun.began - self.began
        return Transaction(at, ended - begun.began, outcome, by_hand, commit, begun.autocommit)

    def _savepoint(self, entered: Entered) -> Savepoint:
        ended = entered.ended or perf_counter()
        at, line = entered.began - self.began, lines.told(entered.line) or ""
        return Savepoint(at, ended - entered.began, line, entered.outcome, entered.reason)

    def _flushed(self) -> tuple[tuple[str, int, int, int], ...]:
        models = {name: [0, 0, 0] for name, _ in self.flushed}
        for (name, place), number in self.flushed.items():
            models[name][place] = number
        return tuple((name, *numbers) for name, numbers in models.items())  # type: ignore[misc]


def name_of(scope: Any) -> str:
    """Return what a scope is called, with short names of files."""
    where = getattr(scope, "where", None)
    return f"the scope opened at {lines.told(where)}" if where is not None else str(scope)


def route_of(scope: Any) -> str | None:
    """Return the method and the template of the path of a request, if it has found its route."""
    asgi: Any = getattr(scope, "asgi", None)
    if asgi is None:
        return None
    route = asgi.get("fastapi", {}).get("effective_route_context") or asgi.get("route")
    path = getattr(route, "path", None)
    return None if path is None else f"{asgi.get('method', 'WEBSOCKET')} {path}"


def holding(draft: Draft) -> str:
    """Say who holds a connection, since when, and what it does with it."""
    now = perf_counter()
    current = draft.current
    if current is not None:
        doing = f"in a {current.sql.kind} for {now - current.began:.1f} s at "
        return f"{name_of(draft.scope)} ({doing}{lines.told(current.line)})"
    idle = now - (draft.idle_since or now)
    line: Line = draft.idle_line
    where = f" after {lines.told(line)}" if line is not None else ""
    return f"{name_of(draft.scope)} (idle for {idle:.1f} s{where})"


def waits(draft: Draft) -> str | None:
    """Say for what a draft waits, how long, and for whom; None if it does not."""
    if draft.waiting is None:
        return None
    what, since, whom, line = draft.waiting
    where = f" at {lines.told(line)}" if line is not None else ""
    held = f", held by {'; '.join(whom)}" if whom else ""
    seconds = perf_counter() - since
    return f"{name_of(draft.scope)} waits for {what} for {seconds:.1f} s{where}{held}"
