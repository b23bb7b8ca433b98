"""The facts of waiting: who holds something that others want."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbscope.watch.event import Event, UnitEvent

if TYPE_CHECKING:
    from dbscope.unit.current import Scope
    from dbscope.unit.unit import Unit


@dataclass(frozen=True, slots=True)
class IdleInTransaction(UnitEvent):
    """It sat in a transaction without a statement for longer than `idle_limit`."""

    seconds: float
    after: object
    before: object


@dataclass(frozen=True, slots=True)
class WriteTurnWanted(UnitEvent):
    """It begins to wait for whoever writes to the file; SQLite has one writer at a time."""

    writer: Unit


@dataclass(frozen=True, slots=True)
class WriteTurnTaken(UnitEvent):
    """It may write, or has waited in vain."""

    granted: bool


@dataclass(frozen=True, slots=True)
class AdvisoryLockWanted(Event):
    """Somebody begins to wait for an advisory lock."""

    scope: Scope | None
    unit: Unit | None
    lock: object
    key: str


@dataclass(frozen=True, slots=True)
class AdvisoryLockTaken(Event):
    """It is held, or was waited for in vain."""

    lock: object
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class AdvisoryLockReleased(Event):
    """It was given back."""

    lock: object


class ClientTimedOut(UnitEvent):
    """It held a transaction and waited for its client for longer than `client_wait`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ClientWaits(Event):
    """A transaction is held while the client is waited for; once for each line that waits."""

    scope: Scope
    how: str
    where: str
    advice: str
