"""A block of the stack: the transaction of a scope, a savepoint, or joined to the one around."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from dbscope.errors import TransactionManagementError
from dbscope.unit.hooks import Hook, HookFunction, Hooks, checked
from dbscope.unit.no_session import NoSession

if TYPE_CHECKING:
    from sqlalchemy import NestedTransaction
    from sqlalchemy.orm import SessionTransaction


class Kind(StrEnum):
    """What a block is to the database."""

    ROOT = "root"  # a transaction
    SAVEPOINT = "savepoint"
    JOINED = "joined"  # nothing: it shares the fate of the block around it


class Outcome(StrEnum):
    """How a block ended."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"


MANUAL = object()  # the owner of a block that was opened by `session.begin_nested()`


class Block(NoSession):
    """One `atomic()` block, or the transaction of a whole scope.

    Args:
        kind: transaction, savepoint or joined.
        where: the place in the code, or the request, that it was opened by; for messages.
        parent: the block around it.
        owner: what has entered it, so that only that can leave it; None for the block of a scope.
    """

    __slots__ = (
        "deadline",
        "fault",
        "hooks",
        "is_releasing",
        "isolation",
        "kind",
        "nested",
        "outcome",
        "own_scope",
        "owner",
        "parent",
        "readonly",
        "rollback_only",
        "savepoint",
        "timer",
        "where",
    )

    def __init__(
        self, kind: Kind, where: object, parent: Block | None = None, owner: object = None
    ) -> None:
        self.kind = kind
        self.where = where
        self.parent = parent
        self.owner = owner
        self.own_scope: Any = None  # a block outside any scope opens one for itself
        self.nested: SessionTransaction | None = None
        self.savepoint: NestedTransaction | None = None  # once SAVEPOINT was sent
        self.is_releasing = False  # RELEASE is being sent
        self.fault: BaseException | None = None
        self.rollback_only = False
        self.hooks: Hooks | None = None
        self.outcome: Outcome | None = None
        self.isolation: str | None = None  # of a root
        self.readonly = False
        self.deadline: float | None = None  # by `time.monotonic`
        self.timer: Any = None  # what ends the code inside at that time, where that is possible

    @property
    def id(self) -> int:
        """Return a number that no other open block has."""
        return id(self)

    @property
    def has_attributes(self) -> bool:
        """Tell whether it asked for an isolation level, or to be read-only."""
        return self.readonly or self.isolation is not None

    @property
    def is_untouched(self) -> bool:
        """Tell whether nobody entered it, promised anything or failed in it."""
        return self.hooks is None and self.owner is None and self.fault is None

    @property
    def depth(self) -> int:
        """Return how many blocks are around this one."""
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def physical(self) -> Block:
        """Return the block whose transaction or savepoint this one belongs to."""
        block = self
        while block.kind is Kind.JOINED and block.parent is not None:
            block = block.parent
        return block

    @property
    def base(self) -> Block:
        """Return the block that a rollback of this one goes back to the start of.

        It is another one where nothing had been done there yet: no SAVEPOINT was sent for this.
        """
        block = self
        while block.nested is None and block.parent is not None:
            block = block.parent
        return block

    @property
    def is_broken(self) -> bool:
        """Tell whether a statement failed in it, so that it can only be rolled back."""
        return self.physical.fault is not None

    def set_rollback(self, rollback: bool = True) -> None:
        """Roll this block back quietly when it is left; False takes that and a failure back."""
        block = self.physical
        block.rollback_only = rollback
        if not rollback:
            block.fault = None

    def on_commit(
        self, function: HookFunction, *, robust: bool = False, all_databases: bool = False
    ) -> None:
        """Run the function after the outermost COMMIT, if this block is part of it."""
        self._hooks().on_commit.append(
            Hook(checked(function), robust, all_databases, is_of_commit=True)
        )

    def on_rollback(self, function: HookFunction) -> None:
        """Run the function after this block was rolled back."""
        self._hooks().on_rollback.append(Hook(checked(function), depth=self.depth))

    def before_commit(self, function: HookFunction) -> None:
        """Run the function inside the transaction, before its COMMIT."""
        self._hooks().before_commit.append(Hook(checked(function)))

    def _hooks(self) -> Hooks:
        if self.outcome is not None:
            raise TransactionManagementError(
                f"It is too late for a hook of {self}, which is finalized ({self.outcome.value})."
            )
        if self.hooks is None:
            self.hooks = Hooks()
        return self.hooks

    def end(self, outcome: Outcome) -> list[Hook]:
        """Note the outcome of a transaction or savepoint, and return the hooks now due."""
        self.outcome = outcome
        hooks, self.hooks = self.hooks, None
        if hooks is None or outcome is Outcome.UNKNOWN:
            return []
        return hooks.take(committed=outcome is Outcome.COMMITTED)

    def join(self) -> None:
        """Hand the hooks to the block around this one, which now decides about them."""
        self.outcome = Outcome.COMMITTED
        hooks, self.hooks = self.hooks, None
        if hooks is not None and self.parent is not None:
            self.parent._hooks().join(hooks)  # noqa: SLF001  (the same class)

    def __str__(self) -> str:
        return str(self.where) if self.owner is None else f"the block opened at {self.where}"

    def __repr__(self) -> str:
        state = self.outcome.value if self.outcome else "broken" if self.is_broken else "open"
        return f"<Block {self.kind.value} {state}, {self}>"


def describe(blocks: list[Block]) -> str:
    """Name the blocks, outermost first, for a message."""
    return ", ".join(str(block) for block in blocks)
