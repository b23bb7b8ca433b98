"""How many statements a piece of code may send."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dbscope.backends.driver import WAYS
from dbscope.testing.inside import dialects_of
from dbscope.unit import callsite

if TYPE_CHECKING:
    from collections.abc import Generator

    from dbscope.testing.inside import AnyDatabase

OF_BLOCKS = re.compile(r"SAVEPOINT|RELEASE|ROLLBACK TO", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that was sent.

    Args:
        sql: as it was sent.
        where: the line of the application that has sent it; empty if no line of it did.
    """

    sql: str
    where: str

    def __str__(self) -> str:
        sql = " ".join(self.sql.split())
        return f"{sql}\n     {self.where}" if self.where else sql


class Statements(list[Statement]):
    """What was sent so far; `str` is a numbered list of it."""

    def __str__(self) -> str:
        known: dict[str, int] = {}
        lines: list[str] = []
        for number, each in enumerate(self, 1):
            first = known.setdefault(each.sql, number)
            again = "" if first == number else f" (the same as {first}.)"
            lines.append(f"{number:3}. {each}{again}")
        return "\n".join(lines)


@contextmanager
def recorded(db: AnyDatabase) -> Generator[Statements]:
    """Record the statements that are sent, by whomever; transactions are no statements."""
    sent = Statements()
    dialects = dialects_of(db)
    ways = [(dialect, name, getattr(dialect, name)) for dialect in dialects for name in WAYS]
    for dialect, name, way in ways:
        setattr(dialect, name, partial(_record, sent, way))
    try:
        yield sent
    finally:
        for dialect, name, way in ways:
            setattr(dialect, name, way)


def _record(sent: Statements, way: Any, cursor: Any, statement: str, *rest: Any, **kw: Any) -> Any:
    if not OF_BLOCKS.match(statement) and not _is_greeting(rest):
        sent.append(Statement(statement, callsite.callsite() or ""))
    return way(cursor, statement, *rest, **kw)


def _is_greeting(rest: tuple[Any, ...]) -> bool:
    """Tell what SQLAlchemy asks a server by the first connection, to get to know it."""
    try:
        return rest[-1].root_connection.info is None
    except NotImplementedError:
        return True


@contextmanager
def assert_max_statements(db: AnyDatabase, n: int) -> Generator[Statements]:
    """Fail if more statements are sent than that.

    Args:
        db: the database; its companion counts, too.
        n: how many may be sent.

    Returns:
        The statements, as they are sent.

    Raises:
        AssertionError: at the end, with all of them and the lines that have sent them.

    Example:
        >>> with assert_max_statements(db, 2):
        ...     client.get("/orders")
    """
    with recorded(db) as sent:
        yield sent
    if len(sent) > n:
        raise AssertionError(f"{_sent(sent)}, and at most {n} may be:\n{sent}")


@contextmanager
def assert_statements(db: AnyDatabase, n: int) -> Generator[Statements]:
    """Fail unless exactly so many statements are sent; see `assert_max_statements`."""
    with recorded(db) as sent:
        yield sent
    if len(sent) != n:
        raise AssertionError(f"{_sent(sent)}, and {n} should be:\n{sent}")


def _sent(sent: Statements) -> str:
    return "1 statement was sent" if len(sent) == 1 else f"{len(sent)} statements were sent"
