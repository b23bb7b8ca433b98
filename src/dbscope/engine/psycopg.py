"""psycopg's async connection, made to end although the server no longer answers.

When a task is cancelled in a query, psycopg asks the server to cancel it, and waits for that for 5
seconds, and for the query for 5 more. In a black hole nobody answers either.
"""

from __future__ import annotations

from typing import Any

import anyio
import psycopg

CANCEL_TIMEOUT = 1.0  # seconds


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """A connection that is closed if the server cannot even be asked to cancel."""

    async def cancel_safe(self, *, timeout: float = CANCEL_TIMEOUT) -> None:
        """Ask the server to cancel; give the connection up if that takes too long.

        Shielded, for an anyio scope would cancel the asking too, and the query would go on.
        """
        try:
            with anyio.CancelScope(shield=True):
                await super().cancel_safe(timeout=min(timeout, CANCEL_TIMEOUT))
        except psycopg.errors.CancellationTimeout:
            self.pgconn.finish()
            raise
