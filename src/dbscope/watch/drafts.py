"""What is known so far of a scope that has not ended: it becomes a record."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from dbscope.unit.block import Block
from dbscope.watch import lines
from dbscope.watch.parts import Gap, HookRun, Line, Sent, Wait
from dbscope.watch.problems import Seen

if TYPE_CHECKING:
    from dbscope.unit.unit import Unit

MOST = 500  # statements of a scope that are kept; the others are counted
SHORTEST = 0.02  # seconds: a gap that is worth keeping


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
    name: str | None = None  # of one that was sent as text


class Draft:
    """One unit of one scope, as long as it is not over."""

    unit: Unit
    scope: Any
    number: int
    kind: str
    began: float
    epoch: float
    attempt: int
    before: tuple[str, ...]  # the codes of the attempts before
    statements: list[Sent]
    transactions: list[Begun]
    savepoints: list[Entered]
    waits: list[Wait]
    gaps: list[Gap]
    hooks: list[HookRun]
    flushed: dict[tuple[str, int], int]
    pending: dict[str, int]
    writes: list[Sent]
    uncounted: dict[Any, Sent]  # those beyond the ones that are kept, added up
    status: int | None = None
    reason: str | None = None
    line: Line = None
    swallowed: tuple[str, Line] | None = None
    asked: tuple[str, Line] | None = None
    by_hand: tuple[str, Line] | None = None
    root: int | None = None  # the id of the block that failed
    left: tuple[str, Line] | None = None  # a block, by an error
    is_partly: bool = False
    failed: bool = False
    again: bool = False
    is_verified: bool = False
    is_on_purpose: bool = False  # kept though the answer tells of an error
    more: int = 0  # statements that are only counted
    savepoint: int | None = None  # the innermost that is open
    waiting: tuple[str, float, tuple[str, ...], Line] | None = None
    transaction: Begun | None = None  # that goes on
    hook_began: float = 0.0
    held_since: float | None = None
    held: float = 0.0
    idle_since: float | None = None
    idle_line: Line = None
    awaited: str | None = None
    current: Sent | None = None
    unread: tuple[Sent, Any] | None = None  # whose rows are still to be counted, by its cursor
    who: Any = None  # the task, or the number of the thread
    seen: Seen  # what it has loaded, for who looks for problems

    def __init__(self, unit: Unit, number: int, kind: str) -> None:
        # All of them in itself, and in one order: they are found without a look at the class.
        self.__dict__ = AT_FIRST.copy()
        self.unit = unit
        self.scope = unit.scope
        self.number = number
        self.kind = kind
        self.began = perf_counter()
        self.epoch = time()
        self.statements = []
        self.transactions = []
        self.savepoints = []
        self.waits = []
        self.gaps = []
        self.hooks = []
        self.flushed = {}
        self.pending = {}
        self.writes = []
        self.uncounted = {}
        self.seen = Seen()
        attempts = unit.scope.attempts
        self.before = () if attempts is None else attempts.codes
        self.attempt = len(self.before) + 1

    # -- while it goes on ----------------------------------------------------------------------

    def begin(self, *, autocommit: bool) -> None:
        """Note that a transaction has begun."""
        if self.transaction is None:
            self.transaction = Begun(perf_counter(), autocommit)
            self.transactions.append(self.transaction)

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


AT_FIRST: dict[str, Any] = {name: vars(Draft).get(name) for name in Draft.__annotations__}


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
