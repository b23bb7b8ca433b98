"""What has failed in a unit, and how much of its work is lost by that."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING

from dbscope.errors import TransactionBroken
from dbscope.unit.block import Outcome

if TYPE_CHECKING:
    from dbscope.errors import ConcurrentUse
    from dbscope.unit.block import Block
    from dbscope.unit.commit_state import CommitState
    from dbscope.unit.current import Scope
    from dbscope.unit.source import Proof


class Faults:
    """The blocks of a unit, of which one or all may be broken."""

    __slots__ = ("blocks", "broken", "refused")

    blocks: list[Block]
    broken: bool
    refused: ConcurrentUse | None  # for which others may have been cancelled
    commit: CommitState
    leaving: bool
    proof: Proof | None
    scope: Scope

    @property
    def block(self) -> Block | None:
        """Return the innermost block."""
        return self.blocks[-1] if self.blocks else None

    @property
    def fault(self) -> BaseException | None:
        """Return the failure that has broken the innermost transaction or savepoint."""
        return self.block.physical.fault if self.block is not None else None

    def check_sound(self) -> None:
        """Raise TransactionBroken if the innermost transaction or savepoint is lost."""
        block = self.block
        fault = None if block is None else block.physical.fault
        if block is not None and fault is not None:
            raise TransactionBroken(f"In {block.physical}:") from fault
        self.broken = False

    def mark_broken(self, error: BaseException) -> None:
        """Note that a statement failed: the innermost transaction or savepoint is lost."""
        self.commit.refuse()
        if self.block is None or self.leaving:
            return
        if self.refused is not None and isinstance(error, CancelledError):
            error = self.refused  # who was cancelled is a sibling of who was refused
        block = self.block.physical
        if block.fault is None:
            block.fault = error
        self.broken = True

    def commit_lost(self) -> None:
        """Note that the answer to COMMIT was lost; if somebody can be asked, that is done next."""
        self.commit.lose()
        if self.proof is None:
            self.scope.note_stored()
        if self.blocks:
            self.blocks[0].outcome = Outcome.UNKNOWN

    def break_all(self, error: BaseException) -> None:
        """Note that the whole transaction is lost."""
        for block in self.blocks:
            if block.fault is None:
                block.fault = error
        self.broken = True
