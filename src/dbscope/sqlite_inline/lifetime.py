"""The life of a connection of `sqlite3`: one call at a time, and one end.

Whoever closes it while another thread is in a call, or a function of its statement is called, frees
what the call still uses, and the process ends by a segmentation fault.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable

AGAIN = 0.01  # seconds: an interrupt that came before the statement has done nothing


class Lifetime:
    """Who is calling, and whether it is over."""

    __slots__ = ("_interrupting", "_is_closed", "in_use", "is_over")

    def __init__(self) -> None:
        self.in_use = threading.RLock()  # held by each call
        self._interrupting = threading.Lock()
        self.is_over = False  # nothing new is begun
        self._is_closed = False

    def interrupt(self, interrupt: Callable[[], None]) -> bool:
        """Interrupt what runs in another thread; False: it is being closed, or is closed."""
        if not self._interrupting.acquire(blocking=False):
            return False
        try:
            if not self._is_closed:
                interrupt()
            return not self._is_closed
        finally:
            self._interrupting.release()

    def end(self, close: Callable[[], None], interrupt: Callable[[], None]) -> None:
        """Close, once; whoever comes later waits for the first.

        Args:
            close: closes the connection.
            interrupt: ends what runs in another thread, which is waited for.

        Raises:
            ProgrammingError: a statement is running in this thread, and has called a function.
        """
        if self.in_use._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
            raise sqlite3.ProgrammingError("A statement cannot close its own connection.")
        self.is_over = True
        while not self.in_use.acquire(timeout=AGAIN):
            self.interrupt(interrupt)
        try:
            self._close(close)
        finally:
            self.in_use.release()

    def _close(self, close: Callable[[], None]) -> None:
        with self._interrupting:
            if not self._is_closed:
                close()
                self._is_closed = True

    def leave_to_parent(self) -> None:
        """Begin and close nothing in a forked child: what is open is the parent's."""
        self.in_use, self._interrupting = threading.RLock(), threading.Lock()
        self.is_over = self._is_closed = True


class Living(Protocol):
    """A connection that has a lifetime."""

    life: Lifetime


owners: WeakSet[Living] = WeakSet()


def keep_for_good(what: object) -> None:
    """Keep the interpreter from collecting this at its end, and so from closing it."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(what))


def leave_all_to_parent() -> None:
    """Use no connection in a forked child: its end would undo what the parent has written."""
    for owner in list(owners):
        owner.life.leave_to_parent()
        keep_for_good(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=leave_all_to_parent)
