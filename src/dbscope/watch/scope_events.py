"""The facts of a scope, which may have several databases, or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbscope.watch.event import Event

if TYPE_CHECKING:
    from dbscope.unit.current import Scope


@dataclass(frozen=True, slots=True)
class AttemptFailed(Event):
    """Work has met another transaction, and is done again after a pause."""

    what: object  # the scope or the block
    number: int  # 1: the first attempt
    error: BaseException
    code: str
    seconds: float


@dataclass(frozen=True, slots=True)
class FailureNotRaised(Event):
    """Something has failed at the end of a scope, and something else is raised, or nothing."""

    what: object  # the scope
    error: BaseException
    part: str  # of the end: "hook", or "work"


@dataclass(frozen=True, slots=True)
class SuccessRolledBack(Event):
    """A response of success is made of an exception, so what its request has written is undone."""

    scope: Scope
    status: int
    error: BaseException


@dataclass(frozen=True, slots=True)
class Answered(Event):
    """The status line of a response is about to leave."""

    scope: Scope
    status: int


@dataclass(frozen=True, slots=True)
class ScopeEnded(Event):
    """A request is over, with all that came after its answer."""

    scope: Scope
