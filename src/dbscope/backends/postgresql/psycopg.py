"""psycopg's async connection, made to end at once when its task is cancelled.

In a query, psycopg asks the server to cancel it, and waits for that for 5 seconds, and for the
query for 5 more; in a black hole nobody answers either. While it connects, it leaves what it has
begun to the garbage collector, and the server with a client that says nothing.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import Any, Self

import anyio
import psycopg

CANCEL_TIMEOUT = 1.0  # seconds


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """A connection that is closed if the server cannot even be asked to cancel."""

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> Self:
        """Connect; if that is cancelled, let go of what was begun."""
        try:
            return await super().connect(*args, **kwargs)
        except asyncio.CancelledError as error:
            traceback.clear_frames(error.__traceback__)
            raise

    async def cancel_safe(self, *, timeout: float = CANCEL_TIMEOUT) -> None:  # noqa: ASYNC109
        """Ask the server to cancel; give the connection up if that takes too long.

        Shielded, for an anyio scope would cancel the asking too, and the query would go on.
        """
        try:
            with anyio.CancelScope(shield=True):
                await super().cancel_safe(timeout=min(timeout, CANCEL_TIMEOUT))
        except psycopg.errors.CancellationTimeout:
            self.pgconn.finish()
            raise
