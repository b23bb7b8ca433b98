"""What a check looks at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from dbscope.backends.doctor import Doctor
from dbscope.cli.ask import file_of, plain_engine
from dbscope.cli.find import AnyDatabase, Found


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
    def file(self) -> Path | None:
        """Return the file that the database is; None: it is a server, or in memory."""
        return file_of(self.db)

    @property
    def doctor(self) -> Doctor:
        """Return what is particular to this kind of database."""
        return self.db.backend.doctor()

    @property
    def connections(self) -> int | None:
        """Return how many connections one process can open at most; None: without limit."""
        pool: Any = self.engine.pool
        overflow = getattr(pool, "_max_overflow", -1)  # SQLAlchemy has no public name for it
        return None if overflow < 0 else pool.size() + overflow
