"""What records are made of: statements, waits, gaps, savepoints, transactions, hooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dbscope.unit.callsite import Place
from dbscope.watch import lines
from dbscope.watch.sql import Sql

Line = Place | str | None
# What a session executes now (None: it flushes), the arguments by name, and the line of that.
Asked = tuple[Any, Mapping[str, Any], Line]


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
    ended: float = field(init=False)  # when it has come back
    rows: int | None = None
    error: str | None = None
    at_once: bool = False  # the server commits it by itself


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


def statement(sent: Sent, zero: float) -> Statement:
    """Return a statement in words.

    Args:
        sent: the statement.
        zero: the time at which the record begins.
    """
    seconds, at = sent.ended - sent.began, sent.began - zero
    line = lines.told(sent.line)
    place = sent.transaction, sent.savepoint
    return Statement(sent.sql, at, seconds, sent.rows, line, *place, sent.error, sent.values)
