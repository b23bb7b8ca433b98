"""The unit of work: one session of one database, opened on first use, finished once."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.orm import SessionTransactionOrigin

from dbscope.errors import ConcurrentUse, ScopeClosed, TransactionBroken
from dbscope.unit.block import Block, Kind, Outcome
from dbscope.unit.turn import Turn, World

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session, SessionTransaction

    from dbscope.unit.current import Scope
    from dbscope.unit.hooks import Hook


class Source(Protocol):
    """What a unit is given by its database."""

    counters: Counter[str]
    forbid_manual_commit: bool
    atomic_requests: bool
    finish_timeout: float
    waits_plainly: bool  # its driver waits for futures only
    run_due: Callable[[Unit], None]  # runs the hooks that a commit by hand made due

    @property
    def world(self) -> World:
        """Return how its units wait."""
        ...

    def make_unit(self, scope: Scope) -> Unit:
        """Return a new unit for this scope."""
        ...

    def make_session(self) -> tuple[Session, Any]:
        """Return a new session, and the object that people are given for it."""
        ...

    def before_transaction(self, unit: Unit, *, will_write: bool) -> None:
        """Get what the unit must have before it takes a connection."""
        ...

    def before_write(self, unit: Unit) -> None:
        """Get what a transaction must have that begins to write only now."""
        ...

    def after_begin(self, unit: Unit, connection: Connection) -> None:
        """Send what the database wants to hear first."""
        ...

    def before_commit(self, unit: Unit) -> None:
        """Look whether the server would answer COMMIT with ROLLBACK."""
        ...

    def after_transaction(self, unit: Unit) -> None:
        """Give back what `before_transaction` got."""
        ...

    def describe_wait(self, unit: Unit) -> str:
        """Say who waited for a connection in vain."""
        ...


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
        "blocks",
        "broken",
        "committing",
        "connection",
        "doomed",
        "due",
        "handle",
        "just_committed",
        "leaving",
        "scope",
        "session",
        "source",
        "state",
        "turn",
    )

    def __init__(self, source: Source, scope: Scope, *, atomic: bool) -> None:
        self.source = source
        self.scope = scope
        self.state = State.OPEN
        self.session: Session | None = None
        self.handle: Any = None  # what people hold: the session, or the AsyncSession around it
        self.connection: Connection | None = None
        self.turn = Turn(source.world)
        self.blocks: list[Block] = [Block(Kind.ROOT, scope)] if atomic else []
        self.due: list[Hook] = []
        self.broken = False
        self.doomed = False
        self.leaving = False
        self.committing = False
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
            raise ScopeClosed(f"{self.source} was used after the end of {self.scope}.")

    def check_free(self) -> None:
        """Raise unless this code may use the unit now."""
        self.check_open()
        if self.turn.is_taken():
            self.source.counters["concurrent_uses"] += 1
            raise ConcurrentUse(f"{self.source} in {self.scope}.")

    def begin_use(self, *, will_write: bool) -> bool:
        """Start an operation of the session; nothing was sent for it yet.

        Returns:
            False inside another operation of the same task, which will end it.

        Raises:
            ScopeClosed, ConcurrentUse, TransactionBroken: instead of sending anything.
        """
        mine = self.turn.take()
        if mine is False:
            return False
        if mine is None or self.state is not State.OPEN:
            self._wait_or_refuse(mine)
        try:
            if self.broken:
                self._check_sound()
            if self.connection is None:
                self.source.before_transaction(self, will_write=will_write)
            elif will_write:
                self.source.before_write(self)
        except BaseException:
            self.end_use()
            raise
        return True

    def end_use(self) -> None:
        """End an operation; if it came to nothing, there is no transaction to hold a turn for."""
        if self.connection is None:
            self.source.after_transaction(self)
        self.turn.give_back()

    def _wait_or_refuse(self, mine: bool | None) -> None:
        if mine:
            self.turn.give_back()
        while self.state is State.SEALED:
            self.turn.wait()
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
        block = self.block.physical
        if block.fault is None:
            block.fault = error
        self.broken = True

    @property
    def fault(self) -> BaseException | None:
        """Return the failure that has broken the innermost transaction or savepoint."""
        return self.block.physical.fault if self.block is not None else None

    def commit_lost(self) -> None:
        """Note that the answer to COMMIT was lost."""
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
        """Tell whether something wants to run inside the transaction, before COMMIT."""
        hooks = self.blocks[0].hooks if self.blocks else None
        return hooks is not None and bool(hooks.before_commit)

    def break_all(self, error: BaseException) -> None:
        """Note that the whole transaction is lost."""
        for block in self.blocks:
            if block.fault is None:
                block.fault = error
        self.broken = True

    # -- its life ------------------------------------------------------------------------------

    def seal(self) -> None:
        """Start to finish: from now on all others wait. Must not wait itself."""
        if self.state is State.OPEN:
            self.state = State.SEALED

    def renew(self) -> None:
        """Begin the tail: the same session, a new transaction."""
        self.blocks = [Block(Kind.ROOT, self.scope)] if self.blocks else []
        self.broken = self.doomed = False
        self.state = State.OPEN
        self.turn.wake()

    def end_life(self) -> None:
        """Refuse everything from now on."""
        self.state = State.CLOSED

    def take_due(self) -> list[Hook]:
        """Return the hooks that are due, and forget them."""
        due, self.due = self.due, []
        return due

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
