"""One user at a time: who is using a unit, and who waits for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from dbscope.unit.serving import is_serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.unit.unit import Unit


class Gate(Protocol):
    """Something to wait for."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, in the way of this world, until it is opened; False if the time was up first."""
        ...

    def open(self) -> bool:
        """Let the waiting one go on, from any thread; False: it will never come."""
        ...


class Concurrency(Protocol):
    """How code waits, and tells itself apart: in greenlets on an event loop, or in threads."""

    def me(self) -> object:
        """Return what is running now; no two that run at the same time are equal."""
        ...

    def task(self) -> Any:
        """Return the task that runs now; None if there is none, as in a thread."""
        ...

    def gate(self) -> Gate:
        """Return a new gate, closed."""
        ...

    def can_wait(self) -> bool:
        """Tell whether the code that runs now can wait for the database."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for nothing but the time."""
        ...

    def call(self, function: Callable[[], object]) -> None:
        """Call a hook, and wait for it if it is asynchronous."""
        ...

    def run(self, function: Callable[[], object]) -> None:
        """Run the end of a unit where its session may wait."""
        ...


class Turn:
    """The right to use a unit; whoever uses it already may use it again."""

    __slots__ = ("_lock", "_waiting", "holder", "strays", "world", "writers")

    def __init__(self, world: Concurrency) -> None:
        self.world = world
        self.holder: object = None
        self.writers: set[Any] = set()  # tasks that have begun to write in this transaction
        self.strays: tuple[Any, ...] = ()  # of them: who goes on when it is ended
        self._lock = threading.Lock()
        self._waiting: list[Gate] = []

    def note_writer(self) -> None:
        """Note who writes: it must be done when the transaction is ended."""
        if (task := self.world.task()) is not None:
            self.writers.add(task)

    def find_strays(self, opener: Any = None) -> tuple[Any, ...]:
        """Find who has begun to write and goes on, though the transaction is being ended.

        What it has done would be stored, and what it is about to do would not, or elsewhere. Who
        ends the transaction is none, nor is a task in which a server or a framework waits for us.

        Args:
            opener: of the scope, which waits for its end, or was another task when it did.
        """
        found = self.writers - {self.world.task(), opener}
        self.strays = tuple(task for task in found if not task.done() and not is_serving(task))
        self.writers.clear()
        return self.strays

    def take(self) -> bool | None:
        """Take the turn. True: it is mine now; False: it was already; None: another has it."""
        me = self.world.me()
        if self.holder == me:
            return False
        if not self._lock.acquire(blocking=False):
            return None
        self.holder = me
        return True

    def is_taken(self) -> bool:
        """Tell whether somebody else is using the unit at this moment."""
        return self.holder is not None and self.holder != self.world.me()

    def is_mine(self) -> bool:
        """Tell whether the code that runs now is using the unit."""
        return self.holder == self.world.me()

    def give_back(self) -> None:
        """End the use, and let those go on who wait for that."""
        if self.holder != self.world.me():
            return  # it was seized meanwhile
        self.holder = None
        try:  # noqa: SIM105  (`suppress` takes half a microsecond)
            self._lock.release()
        except RuntimeError:  # it was seized between these two lines, and given back
            pass
        if self._waiting:
            self.wake()

    def seize(self) -> None:
        """Take the turn from whoever has it, and does not come back."""
        self._lock.acquire(blocking=False)  # free, if that one came in this very moment
        self.holder = self.world.me()

    def wake(self) -> None:
        """Let all who wait look again."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for gate in waiting:
            gate.open()

    def wait(self, needed: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait for the next change, while that is needed; False if the time was up first."""
        gate = self.world.gate()
        self._waiting.append(gate)
        # A change in another thread may have come before the gate.
        return not needed() or gate.wait(timeout)


class InternalEnd:
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
