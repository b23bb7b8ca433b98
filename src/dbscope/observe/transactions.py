"""What becomes of each transaction, told when it is certain: what metrics and spans are made of.

An outcome may be known only after the connection was given back: a flush that fails rolls back
before COMMIT is said to have failed, and a lost answer is asked for on another connection.
"""

from __future__ import annotations

from collections import Counter
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

from dbscope.unit.block import Outcome
from dbscope.watch import events, reasons
from dbscope.watch.dispatch import Remembering
from dbscope.watch.drafts import route_of
from dbscope.watch.kept import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.unit.unit import Unit

COMMITTED = "committed"
ROLLED_BACK = "rolled_back"
COMMIT_FAILED = "commit_failed"
UNKNOWN = "unknown"
VERIFIED = {Outcome.COMMITTED: COMMITTED, Outcome.ROLLED_BACK: ROLLED_BACK}


class Transaction:
    """One transaction, from BEGIN until its outcome is certain.

    Args:
        unit: whose it is.
    """

    __slots__ = (
        "around",
        "began",
        "began_ns",
        "commit_ended_ns",
        "commit_sent_ns",
        "ended_ns",
        "error",
        "kind",
        "outcome",
        "reason",
        "seconds",
        "span",
        "unit",
    )

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.kind = kind_of(unit)  # a request may be a tail when this is told
        self.began = perf_counter()
        self.began_ns = time_ns()  # since 1970
        self.commit_sent_ns: int | None = None
        self.commit_ended_ns: int | None = None
        self.ended_ns = 0
        self.seconds = 0.0
        self.outcome: str | None = None
        self.reason: str | None = None  # why it is not kept, without anybody's data
        self.error: BaseException | None = None
        self.span: Any = None  # for who makes spans,
        self.around: Any = None  #   and what was around it

    @property
    def route(self) -> str:
        """Return the method and the template of the path of a request; else ""."""
        return route_of(self.unit.scope) or ""

    def because(self, reason: str, error: BaseException | None = None) -> None:
        """Note why it is not kept; the first reason counts."""
        if self.reason is None:
            self.reason, self.error = reason, error

    def end(self) -> None:
        """Note that it is over."""
        self.ended_ns = time_ns()
        self.seconds = perf_counter() - self.began

    def end_commit(self) -> None:
        """Note that there is an answer to COMMIT, or that there will be none."""
        if self.commit_sent_ns is not None and self.commit_ended_ns is None:
            self.commit_ended_ns = time_ns()


class Follower(Remembering):
    """A listener that is told of transactions; what follows overrides what it wants to know."""

    def __init__(self) -> None:
        self.open: dict[Unit, Transaction] = {}
        self.undecided: dict[Unit, Transaction] = {}  # over, but its outcome may still be told
        self.wanted: dict[Unit, tuple[float, bool]] = {}  # a connection: since when, of a full pool
        self.held: dict[Unit, float] = {}
        self.handlers: dict[type[events.Event], Callable[[Any], None]] = {
            events.ConnectionWanted: self._wanted,
            events.ConnectionTaken: self._taken,
            events.ConnectionReturned: self._returned,
            events.TransactionBegun: self._begun,
            events.CommitSent: self._commit_sent,
            events.Committed: self._committed,
            events.RolledBack: self._rolled_back,
            events.CommitFailed: self._commit_failed,
            events.OutcomeUnknown: self._unknown,
            events.OutcomeVerified: self._verified,
            events.Decided: self._decided,
            events.EndAsked: self._end_asked,
            events.BlockLeft: self._block_left,
            events.UnitRenewed: self._over,
            events.UnitClosed: self._over,
        }

    def __call__(self, event: events.Event) -> None:
        """Take an event."""
        handler = self.handlers.get(type(event))
        if handler is not None:
            handler(event)

    def start_anew(self) -> None:
        """Forget the transactions of the parent, and who waits there."""
        for each in (self.open, self.undecided, self.wanted, self.held):
            each.clear()

    def waiting(self) -> Counter[str]:
        """Return how many wait for a connection now, by the name of the pool."""
        return Counter(unit.source.pool_name for unit in tuple(self.wanted))

    # -- what is told --------------------------------------------------------------------------

    def waited(
        self, unit: Unit, seconds: float, error: BaseException | None, *, was_full: bool
    ) -> None:
        """It has a connection, or has waited for one in vain."""

    def used(self, unit: Unit, seconds: float) -> None:
        """It has given its connection back."""

    def begun(self, transaction: Transaction) -> None:
        """BEGIN was sent, or goes with the first statement."""

    def ended(self, transaction: Transaction) -> None:
        """Its outcome is certain, or nobody will know it."""

    # -- a connection --------------------------------------------------------------------------

    def _wanted(self, event: events.ConnectionWanted) -> None:
        self._settle(event.unit)
        self.wanted[event.unit] = (perf_counter(), event.is_full)

    def _taken(self, event: events.ConnectionTaken) -> None:
        self._connected(event.unit, event.error)

    def _connected(self, unit: Unit, error: BaseException | None = None) -> None:
        wanted = self.wanted.pop(unit, None)
        if wanted is None:
            return
        since, was_full = wanted
        now = perf_counter()
        if error is None:
            self.held[unit] = now
        self.waited(unit, now - since, error, was_full=was_full)

    def _returned(self, event: events.ConnectionReturned) -> None:
        unit = event.unit
        since = self.held.pop(unit, None)
        if since is not None:
            self.used(unit, perf_counter() - since)
        transaction = self.open.pop(unit, None)
        if transaction is None:
            return
        transaction.end_commit()
        transaction.end()
        if transaction.outcome is None:
            kept = COMMITTED if event.committed else ROLLED_BACK
            transaction.outcome = UNKNOWN if unit.commit.is_lost else kept
        self.undecided[unit] = transaction
        if not unit.blocks:  # of a scope that may last for a day
            self._settle(unit)

    # -- a transaction -------------------------------------------------------------------------

    def _begun(self, event: events.TransactionBegun) -> None:
        self._connected(event.unit)
        transaction = self.open[event.unit] = Transaction(event.unit)
        self.begun(transaction)

    def _commit_sent(self, event: events.CommitSent) -> None:
        transaction = self.open.get(event.unit)
        if transaction is not None:
            transaction.commit_sent_ns = time_ns()

    def _committed(self, event: events.Committed) -> None:
        self._note(event.unit, COMMITTED)

    def _rolled_back(self, event: events.RolledBack) -> None:
        self._note(event.unit, ROLLED_BACK)

    def _note(self, unit: Unit, outcome: str) -> None:
        transaction = self.open.get(unit)
        if transaction is not None:
            transaction.end_commit()
            transaction.outcome = transaction.outcome or outcome

    def _failed(self, unit: Unit, outcome: str, error: BaseException | None, reason: str) -> None:
        transaction = self.open.get(unit) or self.undecided.get(unit)
        if transaction is not None:
            transaction.end_commit()
            transaction.outcome, transaction.reason, transaction.error = outcome, reason, error

    def _commit_failed(self, event: events.CommitFailed) -> None:
        reason = reasons.describe(event.error, event.unit)
        self._failed(event.unit, COMMIT_FAILED, event.error, reason)

    def _unknown(self, event: events.OutcomeUnknown) -> None:
        self._failed(event.unit, UNKNOWN, event.error, reasons.of_unknown(event.error))

    def _verified(self, event: events.OutcomeVerified) -> None:
        reason = f"the answer to COMMIT was lost, and the server says: {event.outcome.value}"
        self._failed(event.unit, VERIFIED[event.outcome], None, reason)

    def _decided(self, event: events.Decided) -> None:
        transaction = self.open.get(event.unit)
        if event.keep or transaction is None:
            return
        if event.error is not None:
            transaction.because(reasons.of_error(event.error, event.unit)[0], event.error)
        elif event.status is not None:
            asgi = getattr(event.unit.scope, "asgi", {})
            transaction.because(reasons.of_answer(event.status, asgi)[0])

    def _end_asked(self, event: events.EndAsked) -> None:
        transaction = self.open.get(event.unit)
        if transaction is not None and event.how != "commit()":
            transaction.because(f"{event.how} called")

    def _block_left(self, event: events.BlockLeft) -> None:
        transaction = self.open.get(event.unit)
        if transaction is None or event.error is None or event.block.parent is not None:
            return
        transaction.because(reasons.of_error(event.error, event.unit)[0], event.error)

    def _over(self, event: events.UnitEvent) -> None:
        unit = event.unit
        transaction = self.open.pop(unit, None)
        if transaction is not None:  # its end was not told
            transaction.end()
            transaction.outcome = transaction.outcome or ROLLED_BACK
            self.undecided[unit] = transaction
        self._settle(unit)
        self.wanted.pop(unit, None)
        self.held.pop(unit, None)

    def _settle(self, unit: Unit) -> None:
        transaction = self.undecided.pop(unit, None)
        if transaction is not None:
            self.ended(transaction)
