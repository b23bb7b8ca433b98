"""Conflicts between transactions, made on purpose and without luck."""

from __future__ import annotations

import sqlite3
from typing import Any, Self

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.worlds import Both, World, record_statements


class Base(DeclarativeBase):
    """The table of the conflicts, which only their tests have."""


class Counter(Base):
    """Each change of a row has a version."""

    __tablename__ = "counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


def with_options(world: World, **engine_options: Any) -> None:
    """Let the world have a database object with these options; nothing was opened by the first."""
    world.database = type(world.database)(world.url, engine_options=engine_options)
    record_statements(world)


def counters(world: World, number: int) -> None:
    """Have the table with that many rows, all zero."""
    world.look.execute("DROP TABLE IF EXISTS counter")
    world.look.execute("CREATE TABLE counter (id int PRIMARY KEY, value int, version int)")
    for each in range(1, number + 1):
        world.look.execute("INSERT INTO counter VALUES (?, 0, 1)", each)


def value(world: World) -> int:
    """Return the value of the first row, as another client sees it."""
    return int(world.look.scalar("SELECT value FROM counter WHERE id = 1"))


def overtake(world: World, db: Both) -> None:
    """Read the first row, let another client change it, and change it: 40001 of PostgreSQL."""
    db.execute(text("SELECT value FROM counter"))
    world.look.execute("UPDATE counter SET value = value + 100 WHERE id = 1")
    db.execute(text("UPDATE counter SET value = value + 1 WHERE id = 1"))


def be_stale(db: Both) -> None:
    """Change a row whose version is no more the one that was read: StaleDataError."""
    counter = db.session.get(Counter, 1)
    db.execute(text("UPDATE counter SET version = version + 1"))
    counter.value += 1
    db.session.flush()


class HeldLock:
    """Another process that is writing to SQLite."""

    def __init__(self, world: World) -> None:
        self.path = make_url(world.url).database or ""

    def __enter__(self) -> Self:
        self.connection = sqlite3.connect(
            self.path, isolation_level=None, timeout=0, check_same_thread=False
        )
        self.connection.execute("BEGIN IMMEDIATE")
        return self

    def release(self) -> None:
        """Let others write."""
        self.connection.close()

    def __exit__(self, *exc: object) -> None:
        self.release()
