"""What has become of the COMMIT of a unit's transaction: one state, written here only."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.orm import SessionTransaction


class Commit(StrEnum):
    """What has become of a COMMIT."""

    IDLE = "idle"  # none was sent for the transaction that is open, or is to be begun
    SENT = "sent"  # there is no answer yet
    STORED = "stored"
    ROLLED_BACK = "rolled back"  # refused, or never sent
    UNKNOWN = "unknown"  # the answer was lost


NEXT: dict[Commit, set[Commit]] = {
    Commit.IDLE: {Commit.SENT, Commit.STORED, Commit.ROLLED_BACK, Commit.UNKNOWN},
    Commit.SENT: {Commit.IDLE, Commit.STORED, Commit.ROLLED_BACK, Commit.UNKNOWN},
    Commit.STORED: {Commit.IDLE},
    Commit.ROLLED_BACK: {Commit.IDLE},
    Commit.UNKNOWN: {Commit.IDLE},
}


class CommitState:
    """The state of one unit.

    SQLAlchemy tells of a COMMIT that has succeeded (`confirm`) before it tells that the transaction
    is over (`end`), and listeners of the application may fail in between.
    """

    __slots__ = ("confirmed", "now")

    def __init__(self) -> None:
        self.now = Commit.IDLE
        self.confirmed: SessionTransaction | None = None

    def _to(self, state: Commit) -> None:
        assert state is self.now or state in NEXT[self.now], f"{self.now} to {state}"
        self.now = state

    def begin(self) -> None:
        """The session begins a transaction; what became of the one before says nothing of it."""
        self._to(Commit.IDLE)

    def send(self) -> None:
        """COMMIT is on its way."""
        self._to(Commit.SENT)

    def refuse(self) -> None:
        """There was an answer, and it was not yes."""
        if self.now is Commit.SENT:
            self._to(Commit.IDLE)

    def lose(self) -> None:
        """There was no answer."""
        self._to(Commit.UNKNOWN)

    def confirm(self, transaction: SessionTransaction | None) -> None:
        """COMMIT, or the RELEASE of a savepoint, has succeeded."""
        self.confirmed = transaction
        if transaction is None or not transaction.nested:
            self._to(Commit.STORED)

    def end(self, transaction: SessionTransaction) -> bool:
        """A transaction or savepoint is over; return whether it was committed or released."""
        is_kept, self.confirmed = self.confirmed is transaction, None
        if not transaction.nested and self.now is not Commit.UNKNOWN:
            self._to(Commit.STORED if is_kept else Commit.ROLLED_BACK)
        return is_kept

    @property
    def is_sent(self) -> bool:
        """Tell whether COMMIT is on its way."""
        return self.now is Commit.SENT

    @property
    def is_stored(self) -> bool:
        """Tell whether it has succeeded."""
        return self.now is Commit.STORED

    @property
    def is_open(self) -> bool:
        """Tell whether COMMIT was sent, and no answer has come."""
        return self.now in {Commit.SENT, Commit.UNKNOWN}

    @property
    def is_lost(self) -> bool:
        """Tell whether the answer was lost."""
        return self.now is Commit.UNKNOWN
