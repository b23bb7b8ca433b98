"""The event loop's turns: what is answered on the spot lets the others have theirs.

A task of a thousand statements that never wait would be one long stall.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from dbscope.aio import threads

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Iterator

SLICE = 0.001  # seconds that statements may take of one turn of the loop


class Turns:
    """So many turns of the loop, to be awaited.

    Args:
        number: 0 lets nobody go first.
    """

    __slots__ = ("_nothings",)

    def __init__(self, number: int) -> None:
        self._nothings = (None,) * number

    def __await__(self) -> Iterator[Any]:
        """Wait as `asyncio.sleep(0)` does."""
        return iter(self._nothings)


NONE = cast("Awaitable[None]", Turns(0))
ONE = cast("Awaitable[None]", Turns(1))


class Slice(threading.local):
    """How long statements have run in this turn of the loop of this thread."""

    _loop: asyncio.AbstractEventLoop | None = None
    _end = 0.0
    _at_end: asyncio.Handle | None = None

    def turns(self) -> Awaitable[None]:
        """Return what to await before a statement: the next turn, if this one was long."""
        loop = threads.running_loop()
        return NONE if loop is None else self._turns(loop)  # it runs only while somebody waits

    def turns_for_others(self) -> Awaitable[None]:
        """Return the next turn if anybody else is waiting for it, however short this one was."""
        loop = threads.running_loop()
        # asyncio's queue of what is ready; other loops have none that could be looked at
        ready: Any = getattr(loop, "_ready", None)
        if loop is None or ready is None or len(ready) > 1:
            return ONE
        if ready and ready[0] is not self._at_end:
            return ONE
        if not ready and self._loop is loop:  # a loop that has another queue
            return ONE
        return self._turns(loop)

    def _turns(self, loop: asyncio.AbstractEventLoop) -> Awaitable[None]:
        if self._loop is not loop:
            self._loop = loop
            self._end = monotonic() + SLICE
            self._at_end = loop.call_soon(self._over)
        elif monotonic() > self._end:
            return ONE
        return NONE

    def _over(self) -> None:
        self._loop = self._at_end = None


current = Slice()
