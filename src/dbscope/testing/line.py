"""The one connection of a sandbox, whose transaction is never committed; who has it, and who waits.

A transaction inside is a savepoint on it, so there is one at a time. Who has only read so far gives
way: its savepoint is released, and it goes on with another one, as a reader in READ COMMITTED would
see what others have committed meanwhile. Who has written keeps the line until it ends.
"""

from __future__ import annotations

import asyncio
import threading
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from dbscope.aio import concurrency, threads
from dbscope.errors import TransactionManagementError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.pool import PoolProxiedConnection

    from dbscope.backends.sandbox import Rules
    from dbscope.testing.homes import Home
    from dbscope.unit.ownership import Gate

PATIENCE = 5.0  # seconds to wait for another transaction, as for a connection of the pool
numbers = count(1)


class Holder(Protocol):
    """A connection of the sandbox, which has the line or waits for it."""

    savepoint: str | None
    has_written: bool
    unread: set[object]
    has_failed: bool
    is_busy: bool

    def is_inside(self, holder: Any, /) -> bool:
        """Tell whether the other one cannot end before this one has."""
        ...

    def end_of_savepoint(self) -> list[str]:
        """Return what ends the savepoint, and keeps what was done."""
        ...

    def note_end(self) -> None:
        """Note that its sandbox has ended."""


class Nested(Protocol):
    """A sandbox; each but the first of a line is a savepoint in the one before."""

    savepoint: str | None
    where: object


class Line:
    """The connection, and the order in which it is used.

    Args:
        keeper: who has made the line.
        engine: whose dialect speaks to it.
        home: where it lives.
        rules: of its database.
        take: takes the connection, when it is needed.
    """

    def __init__(
        self,
        keeper: Any,
        engine: Engine,
        home: Home,
        rules: Rules,
        take: Callable[[], PoolProxiedConnection],
    ) -> None:
        self.keeper = keeper
        self.engine = engine
        self.home = home
        self.rules = rules
        self.sandboxes: list[Nested] = []
        self.proxy: PoolProxiedConnection | None = None
        self.has_written = False
        self.fault: BaseException | None = None  # by which the outer transaction was lost
        self._take = take
        self._holder: Holder | None = None
        self._waiting: list[Gate] = []
        self._mutex = threading.Lock()
        self._pending: list[str] = []  # to be sent before what is sent next
        self._spare: str | None = None  # a savepoint in which nothing was done

    # -- the connection, at its home -----------------------------------------------------------

    @property
    def real(self) -> Any:
        """Return the connection of the driver, if it was taken."""
        return None if self.proxy is None else self.proxy.dbapi_connection

    def open(self) -> None:
        """Take the connection, and begin the transaction that is never committed."""
        if self.proxy is None:
            self.proxy = self._take()
            self.begin()
        for sandbox in self.sandboxes[1:]:
            if sandbox.savepoint is None:
                self._flush()
                sandbox.savepoint = self.new_savepoint()

    def begin(self) -> None:
        """Begin the outer transaction."""
        for statement in self.rules.begin:
            self.ask(statement)

    def ask(self, sql: str) -> list[Any]:
        """Send a statement of ours, and return its rows."""
        cursor = self.real.cursor()
        try:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []
        finally:
            cursor.close()

    def new_savepoint(self) -> str:
        """Make a savepoint."""
        name = f"dbscope_{next(numbers)}"
        self.ask(f"SAVEPOINT {name}")
        return name

    def savepoint(self) -> str:
        """Return a savepoint in which nothing was done yet."""
        self._flush()
        name, self._spare = self._spare, None
        return name or self.new_savepoint()

    def begin_to_write(self) -> bool:
        """Take the lock to write, where that has to be said; True: by a new outer transaction."""
        if self.has_written or not self.rules.begin_to_write or len(self.sandboxes) > 1:
            self.has_written = True
            return False
        self._pending, self._spare = [], None
        for statement in self.rules.begin_to_write:
            self.ask(statement)
        self.has_written = True
        return True

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        for statement in pending:
            self.ask(statement)

    def release(self, savepoint: str, *, is_clean: bool) -> None:
        """End a savepoint, and keep what was done in it."""
        if is_clean and self._spare is None:
            self._spare = savepoint
        else:
            self.ask(f"RELEASE SAVEPOINT {savepoint}")

    def undo(self, savepoint: str) -> None:
        """Undo what was done since a savepoint; as far as it is still there."""
        self.ask(f"ROLLBACK TO SAVEPOINT {savepoint}")
        self._spare = savepoint

    def drop_spare(self) -> None:
        """Release what was kept for the next one."""
        if self._spare is not None:
            self._pending.append(f"RELEASE SAVEPOINT {self._spare}")
            self._spare = None

    # -- the order -----------------------------------------------------------------------------

    def take(self, who: Holder) -> None:
        """Wait until it is one's turn.

        Raises:
            TransactionManagementError: who has it would have to end first, and cannot, or does not.
        """
        until = monotonic() + PATIENCE
        while True:
            with self._mutex:
                holder = self._holder
                if holder is None or holder is who or self._gives_way(holder):
                    self._holder = who
                    who.is_busy = True
                    return
                gate: Gate = concurrency.new_gate()
                self._waiting.append(gate)
            if (holder.has_written or holder.unread) and who.is_inside(holder):
                raise TransactionManagementError(_refusal(who, holder))
            if not gate.wait(max(0.0, until - monotonic())) and monotonic() >= until:
                raise TransactionManagementError(_refusal(who, holder))

    def _gives_way(self, holder: Holder) -> bool:
        if holder.has_written or holder.unread or holder.is_busy:
            return False
        if holder.savepoint is not None:
            if holder.has_failed:
                self._pending.append(f"ROLLBACK TO SAVEPOINT {holder.savepoint}")
            self._pending += holder.end_of_savepoint()
            holder.savepoint = None
        return True

    def rest(self, who: Holder) -> None:
        """End a statement: who has only read may be asked to give way now."""
        with self._mutex:
            who.is_busy = False
            if not (who.has_written or who.unread):
                self._wake()

    def give_back(self, who: Holder) -> None:
        """End a transaction."""
        with self._mutex:
            who.is_busy = False
            if self._holder is who:
                self._holder = None
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for gate in waiting:
            gate.open()

    # -- sandboxes on it -----------------------------------------------------------------------

    def enter(self, sandbox: Nested) -> None:
        """Begin a sandbox, inside of the one before.

        Raises:
            TransactionManagementError: somebody is in the middle of a transaction.
        """
        with self._mutex:
            holder = self._holder
            if holder is not None and self.sandboxes and not self._gives_way(holder):
                raise TransactionManagementError(
                    f"A sandbox was opened at {sandbox.where} while {holder} has work in the one "
                    "around it that is neither committed nor rolled back."
                )
            self._holder = None
            self.drop_spare()
            self.sandboxes.append(sandbox)

    def leave(self, sandbox: Nested) -> None:
        """End a sandbox, with those inside of it: roll back all that was done in it."""
        if sandbox not in self.sandboxes:
            return  # it has ended with the one around it
        depth = self.sandboxes.index(sandbox)
        with self._mutex:
            holder, self._holder = self._holder, None
            if holder is not None:
                holder.note_end()
            self._wake()
            self.sandboxes[depth + 1 :] = []
        try:
            if self.proxy is not None:
                self.home.call(self._undo_all if depth == 0 else lambda: self._undo_inner(sandbox))
        finally:
            self.sandboxes.remove(sandbox)

    def _undo_inner(self, sandbox: Nested) -> None:
        if sandbox.savepoint is None or self.fault is not None:
            return
        self._pending, self._spare = [], None
        self.ask(f"ROLLBACK TO SAVEPOINT {sandbox.savepoint}")
        self.ask(f"RELEASE SAVEPOINT {sandbox.savepoint}")

    def _undo_all(self) -> None:
        self._pending, self._spare = [], None
        proxy, self.proxy = self.proxy, None
        if proxy is None:
            return
        try:
            if self.fault is not None:
                proxy.invalidate()
            else:
                self.engine.dialect.do_rollback(proxy)
        except BaseException as error:
            proxy.invalidate(error)
            raise
        finally:
            proxy.close()


def _refusal(who: Holder, holder: Holder) -> str:
    return (
        f"{who} needs a transaction of its own, and {holder} has work in the sandbox that is "
        "neither committed nor rolled back: on its one connection there is one transaction at a "
        "time. Commit it first (`session.commit()`, or the end of its scope)."
    )


def me() -> object:
    """Return the task that runs now, or the thread."""
    task = asyncio.current_task() if threads.running_loop() is not None else None
    return task or threading.get_ident()
