"""The unit of work: one session of one database, opened on first use, finished once."""

from __future__ import annotations

from asyncio import CancelledError
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import ref

from sqlalchemy.orm import SessionTransactionOrigin

from dbscope.errors import (
    AttributeNotLoaded,
    ConcurrentUse,
    ReadOnlyViolation,
    ScopeClosed,
    TransactionBroken,
    TransactionRequired,
)
from dbscope.unit.block import Block, Kind, Outcome
from dbscope.unit.idle import Idle
from dbscope.unit.ownership import Turn
from dbscope.unit.policy import Mode
from dbscope.unit.results import is_read_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session, SessionTransaction

    from dbscope.unit.current import Scope
    from dbscope.unit.hooks import Hook
    from dbscope.unit.source import Proof, Source


writes = count(1)


class State(StrEnum):
    """Where a unit is in its life."""

    OPEN = "open"
    SEALED = "sealed"  # being finished: everybody else waits
    CLOSED = "closed"


class Unit:
    """One session of one database in one scope.

    Plain functions over a plain `Session`: where they wait, the `world` knows how.
    """

    __slots__ = (
        "begun",
        "blocks",
        "broken",
        "committed",
        "committing",
        "connection",
        "doomed",
        "due",
        "first_write",
        "handle",
        "idle",
        "is_alone",
        "just_committed",
        "leaving",
        "proof",
        "readonly",
        "refused",
        "results",
        "scope",
        "session",
        "settings",
        "source",
        "state",
        "timed",
        "told",
        "turn",
    )

    def __init__(self, source: Source, scope: Scope, mode: Mode) -> None:
        self.source = source
        self.scope = scope
        self.state = State.OPEN
        self.session: Session | None = None
        self.handle: Any = None  # what people hold: the session, or the AsyncSession around it
        self.connection: Connection | None = None
        self.turn = Turn(source.world)
        self.blocks: list[Block] = [Block(Kind.ROOT, scope)] if mode is Mode.ATOMIC else []
        self.readonly = mode is Mode.READONLY
        self.begun = False  # its driver was seen in the transaction
        self.is_alone = False  # what it does is one statement that needs no transaction
        self.due: list[Hook] = []
        self.broken = False
        self.refused: ConcurrentUse | None = None  # for which others may have been cancelled
        self.results: list[ref[Any]] = []  # that are read in pieces
        self.timed = False  # a block of this transaction has a deadline
        self.told: tuple[float | None, float] | None = None  # the server: end, seconds left
        self.doomed = False
        self.first_write: int | None = None  # its place among all that were made
        self.settings: Mapping[str, str] = {}  # what its transaction tells the server
        self.proof: Proof | None = None  # noted before COMMIT, for when its answer is lost
        self.idle = None if source.idle_limit is None else Idle(source.idle_limit)
        self.leaving = False
        self.committing = False  # COMMIT is on its way
        self.committed = False  # the transaction that ended last
        self.just_committed: SessionTransaction | None = None

    @property
    def block(self) -> Block | None:
        """Return the innermost block."""
        return self.blocks[-1] if self.blocks else None

    def open_session(self) -> Any:
        """Return the session that people use; made at the first call, without any I/O."""
        if self.handle is None:
            self.check_open()
            self.session, self.handle = self.source.make_session()
            self.session.dbscope_unit = self  # type: ignore[attr-defined]
            self.source.counters["sessions"] += 1
        return self.handle

    def check_open(self) -> None:
        """Raise ScopeClosed if the scope has ended."""
        if self.state is State.CLOSED:
            raise ScopeClosed(f"{self.source} {self.scope.over} {self.scope}.")

    def check_free(self) -> None:
        """Raise unless this code may use the unit now."""
        self.check_open()
        if self.turn.is_taken():
            self.source.counters["concurrent_uses"] += 1
            self.refused = ConcurrentUse(f"{self.source} in {self.scope}.")
            raise self.refused

    @property
    def deadline(self) -> float | None:
        """Return the time, by `time.monotonic`, at which the innermost block has to end."""
        return self.blocks[-1].deadline if self.blocks else None

    @property
    def is_readonly(self) -> bool:
        """Tell whether nothing may be written now."""
        return self.readonly or (bool(self.blocks) and self.blocks[0].readonly)

    @property
    def is_in_transaction(self) -> bool:
        """Tell whether what is sent now belongs to a transaction, ours or one begun by hand."""
        return bool(self.blocks) or (self.session is not None and is_by_hand(self.session))

    def check_lock(self) -> None:
        """Raise TransactionRequired where a lock would be gone as soon as it is there.

        Django says so too (`select_for_update`).
        """
        if not self.is_in_transaction:
            raise TransactionRequired(f"FOR UPDATE in {self.scope}, which autocommits:")

    def begin_use(self, *, will_write: bool, is_alone: bool = False) -> bool:
        """Start an operation of the session; nothing was sent for it yet.

        Args:
            will_write: it is going to write.
            is_alone: it is one statement, which the database is to commit by itself.

        Returns:
            False inside another operation of the same task, which will end it.

        Raises:
            ScopeClosed, ConcurrentUse, TransactionBroken, ReadOnlyViolation: instead of sending
                anything.
        """
        if will_write and self.is_readonly:
            raise ReadOnlyViolation(f"{self.block or self.scope} is read-only.")
        mine = self.turn.take()
        if mine is False:
            if will_write and self.first_write is None:
                self._write_after_all()
            return False
        if not self.turn.world.can_wait():
            self.turn.give_back()
            self._refuse_to_wait()
        if mine is None or self.state is not State.OPEN:
            self._wait_or_refuse(mine)
        try:
            self._prepare(will_write=will_write, is_alone=is_alone)
        except BaseException:
            self.end_use()
            raise
        return True

    def _prepare(self, *, will_write: bool, is_alone: bool) -> None:
        is_alone = is_alone or not will_write
        self.is_alone = is_alone and not (
            self.blocks or self.source.always_begins or self.is_in_transaction
        )
        if self.broken:
            self._check_sound()
        if self.timed:
            self.source.keep_time(self)
        if self.idle is not None:
            self.idle.begin(self)
        if will_write and self.first_write is None:
            self.first_write = next(writes)
        if will_write and self.connection is not None:
            self.source.before_write(self)

    def _write_after_all(self) -> None:
        # A flush, before the statement that is only to read.
        self.is_alone = False
        self.first_write = next(writes)
        if self.connection is not None:
            self.source.before_write(self)

    def end_use(self) -> None:
        """End an operation; if it came to nothing, there is no transaction to hold a turn for."""
        if self.connection is None:
            self.first_write = None
            self.source.after_transaction(self)
        elif self.idle is not None:
            self.idle.end()
        self.turn.give_back()

    def _refuse_to_wait(self) -> NoReturn:
        self.check_open()
        raise AttributeNotLoaded(f"In {self.scope}:")

    def _wait_or_refuse(self, mine: bool | None) -> None:
        if mine:
            self.turn.give_back()
        while self.is_sealed():
            if not self.turn.wait(self.is_sealed):
                raise ScopeClosed(f"{self.scope} never ended: its event loop was stopped.")
        self.check_free()
        self.turn.take()

    def _check_sound(self) -> None:
        block = self.block
        fault = None if block is None else block.physical.fault
        if block is not None and fault is not None:
            raise TransactionBroken(f"In {block.physical}:") from fault
        self.broken = False

    def mark_broken(self, error: BaseException) -> None:
        """Note that a statement failed: the innermost transaction or savepoint is lost."""
        self.committing = False
        if self.block is None or self.leaving:
            return
        if self.refused is not None and isinstance(error, CancelledError):
            error = self.refused  # who was cancelled is a sibling of who was refused
        block = self.block.physical
        if block.fault is None:
            block.fault = error
        self.broken = True

    @property
    def fault(self) -> BaseException | None:
        """Return the failure that has broken the innermost transaction or savepoint."""
        return self.block.physical.fault if self.block is not None else None

    def note_result(self, context: Any) -> None:
        """Note a result that is read in pieces, by what lives as long as it does."""
        if context is not None:
            self.results = [kept for kept in self.results if kept() is not None]
            self.results.append(ref(context))

    def has_open_result(self) -> bool:
        """Tell whether somebody holds a result of which there is more at the server."""
        return any(is_read_from(context) for kept in self.results if (context := kept()))

    def commit_lost(self) -> None:
        """Note that the answer to COMMIT was lost; if somebody can be asked, that is done next."""
        if self.proof is None:
            self.scope.note_stored()
        if self.blocks:
            self.blocks[0].outcome = Outcome.UNKNOWN

    @property
    def is_lost(self) -> bool:
        """Tell whether the answer to COMMIT was lost."""
        return bool(self.blocks) and self.blocks[0].outcome is Outcome.UNKNOWN

    def is_unused(self) -> bool:
        """Tell whether there is nothing to finish: nothing sent, pending or promised."""
        if self.connection is not None or self.due or self.turn.holder is not None:
            return False
        for block in self.blocks:
            if block.outcome is None and not block.is_untouched:
                return False
        return self.session is None or is_clean(self.session)

    def ends_plainly(self) -> bool:
        """Tell whether its end is only COMMIT, of a driver that waits for futures only."""
        if self.due or self.connection is None or not self.source.waits_plainly:
            return False
        return len(self.blocks) == 1 and self.blocks[0].hooks is None

    def has_before_commit(self) -> bool:
        """Tell whether something is to run inside the transaction, before COMMIT."""
        hooks = self.blocks[0].hooks if self.blocks else None
        if hooks is None or not hooks.before_commit:
            return False
        return not (self.doomed or self.fault or self.blocks[0].rollback_only)

    def break_all(self, error: BaseException) -> None:
        """Note that the whole transaction is lost."""
        for block in self.blocks:
            if block.fault is None:
                block.fault = error
        self.broken = True

    def forget_hooks(self) -> None:
        """Run no hook of these blocks: what was done is neither committed nor rolled back."""
        for block in self.blocks:
            block.end(Outcome.UNKNOWN)

    # -- its life ------------------------------------------------------------------------------

    def seal(self) -> None:
        """Start to finish: from now on all others wait. Must not wait itself."""
        if self.state is State.OPEN:
            self.state = State.SEALED

    def is_sealed(self) -> bool:
        """Tell whether it is being finished, or about to be."""
        return self.state is State.SEALED

    def renew(self) -> None:
        """Begin the tail: the same session, a new transaction."""
        self.blocks = [Block(Kind.ROOT, self.scope)] if self.blocks else []
        self.broken = self.doomed = False
        self.refused = None
        self.results = []
        self.state = State.OPEN
        self.turn.wake()

    def end_life(self) -> None:
        """Refuse everything from now on."""
        self.state = State.CLOSED
        self.refused = None

    def abandon(self) -> None:
        """Have no part in it any more: it is the parent's, in a forked child."""
        self.forget_hooks()
        for block in self.blocks:
            block.nested = None
        self.due = []
        self.turn = Turn(self.turn.world)
        self.session = self.handle = self.connection = None
        self.end_life()

    def take_due(self) -> list[Hook]:
        """Return the hooks that are due, and forget them."""
        due, self.due = self.due, []
        return due if self.source.captures is None else self.source.captures(due)

    def take_before_commit(self) -> list[Hook]:
        """Return what is to run before COMMIT, and forget it."""
        hooks = self.blocks[0].hooks if self.blocks else None
        return [] if hooks is None else hooks.take_before_commit()

    def __repr__(self) -> str:
        session = "no session" if self.session is None else "with a session"
        return f"<Unit {self.state.value}, {len(self.blocks)} blocks, {session}, {self.scope}>"


class Leaving:
    """While it lasts, COMMIT and ROLLBACK come from us, not from the user's hand."""

    __slots__ = ("mine", "unit")

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.mine: bool | None = False

    def __enter__(self) -> None:
        self.unit.leaving = True
        self.mine = self.unit.turn.take()

    def __exit__(self, *exc_info: object) -> None:
        self.unit.leaving = False
        if self.mine:
            self.unit.turn.give_back()


def is_clean(session: Session) -> bool:
    """Tell whether the session has nothing to flush."""
    return session._is_clean()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (session.dirty would build a set each time)


def is_by_hand(session: Session) -> bool:
    """Tell whether the session is in a transaction that was opened by `session.begin()`."""
    transaction = session.get_transaction()
    return transaction is not None and transaction.origin is not SessionTransactionOrigin.AUTOBEGIN
