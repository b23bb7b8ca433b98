"""Who waits for a lock of whom, as a server knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True)
class LockWait:
    """One process of the server that waits for another."""

    waiter: int
    holder: int
    what: str
    told: str  # of the holder, for when it is none of ours


class LockWaits(Protocol):
    """The one who asks for them; from a thread that may wait."""

    def ask(self, processes: Collection[int]) -> list[LockWait]:
        """Return who of these processes waits, and for whom."""
        ...

    def close(self) -> None:
        """Ask no more."""
        ...
