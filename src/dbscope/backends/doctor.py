"""What `dbscope doctor` and `dbscope ping` want to know of one kind of database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from sqlalchemy import Connection

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.engine.interfaces import Dialect

Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """What a check found, in plain words, and the remedy if there is something to remedy."""

    level: Literal["ok", "note", "warning", "serious"]
    found: str
    remedy: str = ""


class Case(Protocol):
    """A database to look at, and how it is used."""

    @property
    def engine(self) -> Engine:
        """The plain engine, which for async is the one inside."""
        ...

    @property
    def file(self) -> Path | None:
        """The file that the database is; None: it is a server, or in memory."""
        ...

    @property
    def workers(self) -> int:
        """Processes that use it."""
        ...

    @property
    def arguments(self) -> dict[str, Any]:
        """The driver was called with these to connect."""
        ...


# One that returns None does not apply. Its name and its docstring are told, too.
Check = Callable[[Any], Finding | None]
ConnectionCheck = Callable[[Any, Connection], Finding | None]


class Doctor:
    """What is looked at; this one stands for all databases of which nothing is known."""

    title = ""  # how people call the database; "": as SQLAlchemy does
    oldest: Numbers = ()  # version that will do
    has_server = True  # which threads wait for at the same time
    a_pooler = "a pooler"  # how people call what shares connections of the server
    usual_passwords: frozenset[str] = frozenset()  # beside those that are usual everywhere
    before: ClassVar[tuple[Check, ...]] = ()  # what is looked at before connecting
    connected: ClassVar[tuple[ConnectionCheck, ...]] = ()  # … and with a connection

    def product(self, dialect: Dialect) -> str:
        """Return how people call what answers."""
        return self.title or dialect.name

    def connecting(self, case: Case) -> AbstractContextManager[None]:  # noqa: ARG002
        """Connect, in this block, so that nothing stays behind."""
        return nullcontext()

    def room(self, connection: Connection) -> int | None:  # noqa: ARG002
        """Return how many connections the server has for us; None: it cannot be told."""
        return None


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


def plural(number: int, noun: str) -> str:
    """Return "1 worker" or "2 workers"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
