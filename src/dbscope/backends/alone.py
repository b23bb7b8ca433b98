"""What one at a time may do to a database, in which several would be in each other's way."""

from __future__ import annotations

from typing import Protocol


class Alone(Protocol):
    """The lock of the one who does it; it vanishes with the process that has it."""

    def take(self) -> bool:
        """Take it, if nobody has it; False: somebody has."""
        ...

    def give_back(self) -> None:
        """Let another one have it; in any thread."""
        ...
