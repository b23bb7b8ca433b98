"""What is kept of a scope that has ended: one frozen record for each database it used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from dbscope.unit.callsite import Place
from dbscope.watch import lines, story
from dbscope.watch.sql import Sql

COMMITTED = "committed"
READ = "read"  # committed, and nothing was written
NOTHING = "nothing sent"  # only hooks were run, or something was waited for
ROLLED_BACK = "rolled back"
COMMIT_FAILED = "COMMIT failed"
UNKNOWN = "outcome unknown"
PARTLY = "partly committed"
NOT_STORED = frozenset({ROLLED_BACK, COMMIT_FAILED, UNKNOWN, PARTLY})
FIRST_ERROR = 400


class Statement(NamedTuple):
    """A statement that was sent."""

    sql: Sql
    at: float  # seconds since the record began
    seconds: float
    rows: int | None
    line: str | None  # of the application
    transaction: int  # its place among those of the record
    savepoint: int | None  # likewise
    error: str | None
    values: str | None  # only if they were asked for


@dataclass(slots=True)
class Sent:
    """A statement that is on its way, or has come back."""

    sql: Sql
    line: Place | str | None
    began: float
    transaction: int
    savepoint: int | None
    values: str | None
    ended: float | None = None
    rows: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for somebody else."""

    what: str  # a connection, the turn to write, a lock …
    at: float
    seconds: float
    whom: tuple[str, ...]  # who had it
    line: str | None
    granted: bool = True


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without a statement while a connection was held."""

    at: float
    seconds: float
    after: str | None  # a line, and the one that came next
    before: str | None
    awaited: str | None  # what was going on meanwhile, if that was seen


@dataclass(frozen=True, slots=True)
class Savepoint:
    """A savepoint for which SAVEPOINT was sent."""

    at: float
    seconds: float
    line: str
    outcome: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Transaction:
    """From BEGIN to COMMIT or ROLLBACK; without a BEGIN where the database commits by itself."""

    at: float
    seconds: float
    outcome: str
    by_hand: str | None  # the line that has ended it, "" if that is not known
    commit: float | None  # seconds that COMMIT took
    autocommit: bool


@dataclass(frozen=True, slots=True)
class HookRun:
    """A hook that was run."""

    name: str
    at: float
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """What one scope has done with one database; `str()` tells it in one line."""

    number: int
    kind: str  # request, tail, hook, scope, job, command, test, …
    name: str  # as messages call it
    route: str | None  # of a request: its template
    database: str
    began: float  # seconds since 1970
    seconds: float
    status: int | None  # of the answer
    outcome: str
    reason: str | None
    line: str | None  # of the reason
    sent: tuple[Sent, ...]  # see `statements`
    zero: float
    more: int  # statements beyond those that are kept
    transactions: tuple[Transaction, ...]
    savepoints: tuple[Savepoint, ...]
    waits: tuple[Wait, ...]
    gaps: tuple[Gap, ...]
    hooks: tuple[HookRun, ...]
    flushed: tuple[tuple[str, int, int, int], ...]  # model, new, changed, deleted
    pending: tuple[tuple[str, int], ...]  # model, objects that were never sent
    not_stored: tuple[tuple[str, int], ...]  # what, rows
    stored: tuple[tuple[str, int], ...]
    attempt: int
    before: tuple[str, ...]  # what the attempts before have failed by
    again: bool  # it is done again
    held: float  # seconds that a connection was held
    is_on_purpose: bool = False  # kept though the answer tells of an error
    problems: tuple[Any, ...] = ()

    @property
    def statements(self) -> tuple[Statement, ...]:
        """Return what was sent; put into words only for who wants to read it."""
        return tuple(statement(each, self.zero) for each in self.sent)

    @property
    def disagrees(self) -> bool:
        """Tell whether the answer says one thing and the database another."""
        if self.status is None:
            return False
        if self.status < FIRST_ERROR:
            return self.outcome in NOT_STORED and bool(self.not_stored or self.pending)
        return bool(self.stored) and not self.is_on_purpose

    def __str__(self) -> str:
        return story.line(self)


def statement(sent: Sent, zero: float) -> Statement:
    """Return a statement in words.

    Args:
        sent: the statement.
        zero: the time at which the record begins.
    """
    seconds = 0.0 if sent.ended is None else sent.ended - sent.began
    line = lines.told(sent.line)
    place = sent.transaction, sent.savepoint
    at = sent.began - zero
    return Statement(sent.sql, at, seconds, sent.rows, line, *place, sent.error, sent.values)
