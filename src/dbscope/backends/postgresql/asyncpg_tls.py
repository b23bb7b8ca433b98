"""asyncpg's question whether the server speaks TLS, made to leave nothing behind.

It is asked for each connection, and for each cancellation of a statement. Cancelled while the
socket connects, it leaves a future that nobody awaits, whose exception asyncio logs ("Future
exception was never retrieved")
(https://github.com/MagicStack/asyncpg/blob/master/asyncpg/connect_utils.py).
"""

from __future__ import annotations

from typing import Any

from asyncpg import connect_utils  # pyright: ignore[reportMissingTypeStubs]


class Upgrade(connect_utils.TLSUpgradeProto):  # type: ignore[misc]  # it has no types
    """The question, whose end is an error only of who awaits the answer."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End; who awaits the answer still gets the error."""
        super().connection_lost(exc)
        answer: Any = self.on_data  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if answer.done() and not answer.cancelled():
            answer.exception()


def install() -> None:
    """Let asyncpg ask so from now on."""
    connect_utils.TLSUpgradeProto = Upgrade
