"""Hearing of what others tell by the server, on a connection of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event


class Notifications(Protocol):
    """The one who hears; each way takes a connection, and gives it up at the end."""

    async def hear(self, ring: Callable[[], None]) -> None:
        """Call the function whenever somebody tells something, until the connection is over."""
        ...

    def hear_in_thread(self, ring: Callable[[], None], stopped: Event, pause: float) -> None:
        """Do the same in a thread that may wait, until it is to stop.

        Args:
            ring: is called; once at the beginning, too, for what has come before.
            stopped: set by who wants it to end.
            pause: seconds after which it looks at that.
        """
        ...
