"""The facts of a transaction, each as a frozen record: what happened, to which unit.

They are told where work ends, by whoever ends it, and not by SQLAlchemy's events: its `commit` is
called before COMMIT is sent. Counters (`counters.py`) and logs (`logs.py`) listen like everybody.
"""

# ruff: noqa: PLC0414  (all events are imported from here)

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbscope.watch.event import Event as Event
from dbscope.watch.event import UnitEvent as UnitEvent
from dbscope.watch.scope_events import Answered as Answered
from dbscope.watch.scope_events import AttemptFailed as AttemptFailed
from dbscope.watch.scope_events import FailureNotRaised as FailureNotRaised
from dbscope.watch.scope_events import ScopeEnded as ScopeEnded
from dbscope.watch.scope_events import SuccessRolledBack as SuccessRolledBack
from dbscope.watch.wait_events import AdvisoryLockReleased as AdvisoryLockReleased
from dbscope.watch.wait_events import AdvisoryLockTaken as AdvisoryLockTaken
from dbscope.watch.wait_events import AdvisoryLockWanted as AdvisoryLockWanted
from dbscope.watch.wait_events import ClientTimedOut as ClientTimedOut
from dbscope.watch.wait_events import ClientWaits as ClientWaits
from dbscope.watch.wait_events import IdleInTransaction as IdleInTransaction
from dbscope.watch.wait_events import WriteTurnTaken as WriteTurnTaken
from dbscope.watch.wait_events import WriteTurnWanted as WriteTurnWanted

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from dbscope.unit.block import Block, Outcome
    from dbscope.unit.hooks import Hook
    from dbscope.unit.unit import Unit


# -- its life ----------------------------------------------------------------------------------


class SessionOpened(UnitEvent):
    """Its session was taken for the first time; nothing is on the wire yet."""

    __slots__ = ()


class UnitRenewed(UnitEvent):
    """The answer is about to leave: what it does from now on is the tail of a request."""

    __slots__ = ()


class UnitClosed(UnitEvent):
    """Its scope is over."""

    __slots__ = ()


class ConcurrentUseRefused(UnitEvent):
    """Somebody wanted to use it while another task was in the middle of a statement."""

    __slots__ = ()


# -- a connection ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConnectionWanted(UnitEvent):
    """It begins to wait for a connection of the pool."""

    engine: Engine
    is_full: bool  # the pool: somebody has to give one back first


@dataclass(frozen=True, slots=True)
class ConnectionTaken(UnitEvent):
    """It has a connection, or has waited in vain."""

    error: BaseException | None


@dataclass(frozen=True, slots=True)
class ConnectionReturned(UnitEvent):
    """It has given its connection back; `committed` is what became of the transaction."""

    committed: bool


@dataclass(frozen=True, slots=True)
class SecondConnectionTaken(Event):
    """A scope takes a connection while one around it holds another."""

    who: object
    holder: Unit


@dataclass(frozen=True, slots=True)
class ConnectionDiscarded(Event):
    """A connection was found in a state that nobody can use it in."""

    unit: Unit | None
    why: str  # "" where the next one is simply taken instead
    error: BaseException | None = None


# -- a transaction -----------------------------------------------------------------------------


class TransactionBegun(UnitEvent):
    """BEGIN was sent, or goes with the first statement."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class StatementBegun(UnitEvent):
    """A statement is about to be sent."""

    sql: str
    parameters: Any
    context: Any  # SQLAlchemy's ExecutionContext


@dataclass(frozen=True, slots=True)
class StatementEnded(UnitEvent):
    """Its answer is here."""

    context: Any
    error: BaseException | None


class FlushBegun(UnitEvent):
    """What the session has pending is about to be sent."""

    __slots__ = ()


class CommitSent(UnitEvent):
    """COMMIT is on its way; what becomes of it is open."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Decided(UnitEvent):
    """A scope has decided about the work of its unit, and why."""

    keep: bool
    error: BaseException | None  # that left the endpoint, the job, …
    status: int | None  # of the response that is about to leave


@dataclass(frozen=True, slots=True)
class EndAsked(UnitEvent):
    """The application called `doom()` or `set_rollback(True)`, or ends a transaction by hand."""

    how: str


@dataclass(frozen=True, slots=True)
class ClosedByHand(UnitEvent):
    """The application has closed the session, which rolls back what was written."""

    where: str


@dataclass(frozen=True, slots=True)
class Committed(UnitEvent):
    """COMMIT has succeeded."""

    by_hand: bool


@dataclass(frozen=True, slots=True)
class RolledBack(UnitEvent):
    """The transaction was rolled back, whoever has asked for it."""

    by_hand: bool


@dataclass(frozen=True, slots=True)
class CommitFailed(UnitEvent):
    """COMMIT, or the flush before it, was refused; nothing of the transaction is stored."""

    error: BaseException


class KeyFound(UnitEvent):
    """What `db.once` is asked for was done before; ROLLBACK then undoes nothing but its look."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class OutcomeUnknown(UnitEvent):
    """Nobody can tell what became of it: no answer to COMMIT, or it was ended on the driver."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class OutcomeVerified(UnitEvent):
    """The answer to COMMIT was lost, and the database was asked what became of it."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class OutcomeNotFound(UnitEvent):
    """The answer to COMMIT was lost, and the database cannot be asked."""

    error: BaseException | None


@dataclass(frozen=True, slots=True)
class PartlyCommitted(UnitEvent):
    """Of several databases in a scope, some have committed and others have not."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class RollbackFailed(UnitEvent):
    """ROLLBACK itself has failed, so the connection is discarded."""

    error: BaseException


# -- blocks ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SavepointBegun(UnitEvent):
    """SAVEPOINT was sent."""

    block: Block | None


@dataclass(frozen=True, slots=True)
class BlockLeft(UnitEvent):
    """A block is being left, by this error if there is one."""

    block: Block
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class BlockEnded(UnitEvent):
    """A savepoint was released or rolled back."""

    block: Block
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class FailureSwallowed(UnitEvent):
    """A block is left as if nothing had happened, though a statement failed in it."""

    block: Block


# -- hooks and attempts ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HookBegun(UnitEvent):
    """A hook is run, now that its transaction has ended."""

    hook: Hook


@dataclass(frozen=True, slots=True)
class HookEnded(UnitEvent):
    """A hook has ended well."""

    hook: Hook


@dataclass(frozen=True, slots=True)
class HookFailed(UnitEvent):
    """A hook has raised; the work is as it was decided."""

    hook: Hook
    error: BaseException
