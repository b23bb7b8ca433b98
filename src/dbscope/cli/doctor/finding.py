"""What a check looks at, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Engine

from dbscope.cli.ask import plain_engine
from dbscope.cli.find import AnyDatabase, Found


@dataclass(frozen=True)
class Finding:
    """What a check found, in plain words, and the remedy if there is something to remedy."""

    level: Literal["ok", "note", "warning", "serious"]
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Case:
    """A database to look at, and how it is used.

    Args:
        db: the database.
        workers: processes that use it.
        timeout: seconds that it may take to answer.
        found: the application that it is of.
        arguments: the driver was called with these to connect.
    """

    db: AnyDatabase
    workers: int
    timeout: float
    found: Found
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def engine(self) -> Engine:
        """Return the plain engine, which for async is the one inside."""
        return plain_engine(self.db)

    @property
    def connections(self) -> int | None:
        """Return how many connections one process can open at most; None: without limit."""
        pool: Any = self.engine.pool
        overflow = getattr(pool, "_max_overflow", -1)  # SQLAlchemy has no public name for it
        return None if overflow < 0 else pool.size() + overflow


def ok(found: str) -> Finding:
    """All is well."""
    return Finding("ok", found)


def note(found: str, remedy: str = "") -> Finding:
    """Good to know."""
    return Finding("note", found, remedy)


def warning(found: str, remedy: str) -> Finding:
    """It will hurt one day."""
    return Finding("warning", found, remedy)


def serious(found: str, remedy: str) -> Finding:
    """Requests will fail, or data is at risk."""
    return Finding("serious", found, remedy)
