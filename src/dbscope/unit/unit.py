"""The unit of work: one session of one database, opened on first use, finished once."""

from __future__ import annotations

from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import ref

from dbscope.errors import (
    AttributeNotLoaded,
    ConcurrentUse,
    ReadOnlyViolation,
    ScopeClosed,
    TransactionRequired,
)
from dbscope.unit import callsite, sessions
from dbscope.unit.block import Block, Kind, Outcome
from dbscope.unit.commit_state import CommitState
from dbscope.unit.faults import Faults
from dbscope.unit.idle import Idle
from dbscope.unit.ownership import Turn
from dbscope.unit.policy import Mode
from dbscope.unit.sessions import is_by_hand, is_clean
from dbscope.watch.events import ConcurrentUseRefused, SessionOpened, UnitRenewed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, RootTransaction
    from sqlalchemy.orm import Session

    from dbscope.unit.current import Scope
    from dbscope.unit.hooks import Hook
    from dbscope.unit.source import Proof, Source


writes = count(1)


class State(StrEnum):
    """Where a unit is in its life."""

    OPEN = "open"
    SEALED = "sealed"  # being finished: everybody else waits
    CLOSED = "closed"


class Unit(Faults):
    """One session of one database in one scope; where it waits, its `world` knows how."""

    __slots__ = (
        "asked",
        "begun",
        "commit",
        "connection",
        "doomed",
        "first_write",
        "handle",
        "idle",
        "is_alone",
        "leaving",
        "pending_hooks",
        "proof",
        "readonly",
        "results",
        "root",
        "scope",
        "server_limit",
        "session",
        "settings",
        "source",
        "state",
        "timed",
        "turn",
    )

    def __init__(self, source: Source, scope: Scope, mode: Mode) -> None:
        self.source = source
        self.scope = scope
        self.state = State.OPEN
        self.session: Session | None = None
        self.handle: Any = None  # what people hold: the session, or the AsyncSession around it
        self.asked: Any = None  # what the session executes now, for whoever watches
        self.connection: Connection | None = None
        self.root: RootTransaction | None = None  # of that connection, as long as it is this one's
        self.turn = Turn(source.world)
        self.blocks: list[Block] = [Block(Kind.ROOT, scope)] if mode is Mode.ATOMIC else []
        self.readonly = mode is Mode.READONLY
        self.begun = False  # its driver was seen in the transaction
        self.is_alone = False  # what it does is one statement that needs no transaction
        self.pending_hooks: list[Hook] = []
        self.broken = self.doomed = self.leaving = False
        self.refused: ConcurrentUse | None = None  # for which others may have been cancelled
        self.results: list[ref[Any]] = []  # that are read in pieces
        self.timed = False  # a block of this transaction has a deadline
        # What the server was set to: the end, and the seconds that were left then.
        self.server_limit: tuple[float | None, float] | None = None
        self.first_write: int | None = None  # its place among all that were made
        self.settings: Mapping[str, str] = {}  # what its transaction tells the server
        self.proof: Proof | None = None  # noted before COMMIT, for when its answer is lost
        self.idle = None if source.idle_limit is None else Idle(source.idle_limit)
        self.commit = CommitState()

    def open_session(self) -> Any:
        """Return the session that people use; made at the first call, without any I/O."""
        if self.handle is None:
            self.check_open()
            self.session, self.handle = self.source.make_session()
            self.session.dbscope_unit = self  # type: ignore[attr-defined]
            self.source.events.tell(SessionOpened, self)
        return self.handle

    def check_open(self) -> None:
        """Raise ScopeClosed if the scope has ended."""
        if self.state is State.CLOSED:
            raise ScopeClosed(f"{self.source} {self.scope.closed_reason} {self.scope}.")
        if self.scope.strays:
            self.scope.refuse_stray(self.turn.world.task())

    def check_free(self) -> None:
        """Raise unless this code may use the unit now."""
        self.check_open()
        if self.turn.is_taken():
            self.source.events.tell(ConcurrentUseRefused, self)
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
        """Raise TransactionRequired where a lock would be gone at once, as Django does."""
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
            ScopeClosed, ConcurrentUse, TransactionBroken, ReadOnlyViolation: nothing is sent.
        """
        if will_write and self.is_readonly:
            raise ReadOnlyViolation(
                f"{self.block or self.scope} is read-only{sessions.pending(self.session)}."
            )
        mine = self.turn.take()
        if mine is False:
            if will_write and self.first_write is None:
                self._write_after_all()
            return False
        if not self.turn.world.can_wait():
            self.turn.give_back()
            self.check_open()
            raise AttributeNotLoaded(f"In {self.scope}, {callsite.of_attribute()}:")
        if mine is None or self.state is not State.OPEN or self.scope.is_watched:
            self._wait_or_refuse(mine)
        try:
            self._prepare(will_write=will_write, is_alone=is_alone)
        except BaseException:
            self.end_use()
            raise
        return True

    def _prepare(self, *, will_write: bool, is_alone: bool) -> None:
        self.is_alone = (is_alone or not will_write) and not (
            self.blocks or self.source.always_begins or self.is_in_transaction
        )
        if self.broken:
            self.check_sound()
        if self.timed:
            self.source.keep_time(self)
        if self.idle is not None:
            self.idle.begin(self)
        if will_write:
            self.note_write()
        if will_write and self.connection is not None:
            self.source.before_write(self)

    def note_write(self) -> None:
        """Note that something is written now."""
        self.turn.note_writer()
        self.first_write = self.first_write or next(writes)

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

    def _wait_or_refuse(self, mine: bool | None) -> None:
        if mine:
            self.turn.give_back()
        self.wait_until_open()
        self.turn.take()

    def wait_until_open(self) -> None:
        """Wait while it is being finished, and then raise unless this code may use it."""
        while self.is_sealed():
            if not self.turn.wait(self.is_sealed):
                raise ScopeClosed(f"{self.scope} never ended: its event loop was stopped.")
        self.check_free()

    def wait_to_decide(self) -> None:
        """Wait while it is being finished, where it matters in what a statement will be sent."""
        if self.scope.is_watched and not self.turn.is_mine() and self.turn.world.can_wait():
            self.wait_until_open()

    def is_unused(self) -> bool:
        """Tell whether there is nothing to finish: nothing sent, pending or promised."""
        if self.connection is not None or self.pending_hooks or self.turn.holder is not None:
            return False
        for block in self.blocks:
            if block.outcome is None and not block.is_untouched:
                return False
        return self.session is None or is_clean(self.session)

    def forget_hooks(self) -> None:
        """Run no hook of these blocks: what was done is neither committed nor rolled back."""
        for block in self.blocks:
            block.end(Outcome.UNKNOWN)

    # -- its life ------------------------------------------------------------------------------

    def seal(self) -> None:
        """Start to finish: from now on all others wait. Must not wait itself."""
        if self.state is State.OPEN:
            self.state = State.SEALED
            if self.turn.writers:
                self.scope.note_strays(self.turn.find_strays(self.scope.opener))

    def is_sealed(self) -> bool:
        """Tell whether it is being finished, or about to be."""
        ahead = self.scope.is_watched and self.state is State.OPEN and self.scope.is_ahead()
        return ahead or self.state is State.SEALED

    def renew(self, *, atomic: bool = True) -> None:
        """Begin the tail: the same session, a new transaction; or none, if it is to autocommit."""
        if self.source.events.listeners:
            self.source.events.tell(UnitRenewed, self)
        self.blocks = [Block(Kind.ROOT, self.scope)] if self.blocks and atomic else []
        self.broken = self.doomed = False
        self.refused = None
        self.results = []
        self.state = State.OPEN
        self.turn.wake()

    def end_life(self) -> None:
        """Refuse everything from now on."""
        self.state = State.CLOSED
        self.refused = None
        self.turn.writers.clear()

    def abandon(self) -> None:
        """Have no part in it any more: it is the parent's, in a forked child."""
        self.forget_hooks()
        for block in self.blocks:
            block.nested = None
        self.pending_hooks = []
        self.turn = Turn(self.turn.world)
        self.session = self.handle = self.connection = self.root = None
        self.end_life()

    def take_pending_hooks(self) -> list[Hook]:
        """Return the hooks that are due, and forget them."""
        due, self.pending_hooks = self.pending_hooks, []
        return due if self.source.captures is None else self.source.captures(due)

    def __repr__(self) -> str:
        session = "no session" if self.session is None else "with a session"
        return f"<Unit {self.state.value}, {len(self.blocks)} blocks, {session}, {self.scope}>"
