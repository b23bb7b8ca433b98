"""asyncpg's connection, which reads the answer to COMMIT.

In a transaction that has failed the server answers COMMIT by ROLLBACK, and by no error
(PostgreSQL, "COMMIT"). What has failed may have gone past SQLAlchemy, as a COPY does.

And its question whether the server speaks TLS, asked for each connection and each cancellation of a
statement. Cancelled while the socket connects, it leaves a future that nobody awaits, whose
exception asyncio logs ("Future exception was never retrieved")
(https://github.com/MagicStack/asyncpg/blob/master/asyncpg/connect_utils.py).
"""

from __future__ import annotations

from typing import Any, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
from asyncpg import connect_utils  # pyright: ignore[reportMissingTypeStubs]

from dbscope.errors import UnexpectedRollback


class Connection(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    """A connection whose COMMIT is one."""

    async def execute(self, query: str, *args: Any, **kwargs: Any) -> str:
        """Execute; a COMMIT that has rolled back is an error."""
        status: str = await cast("Any", super()).execute(query, *args, **kwargs)
        if status == "ROLLBACK" and query == "COMMIT;":  # as asyncpg's transactions send it
            raise UnexpectedRollback("At COMMIT:")
        return status


class Upgrade(connect_utils.TLSUpgradeProto):  # type: ignore[misc]  # it has no types
    """asyncpg's question for TLS, whose end is an error only of who awaits the answer."""

    def connection_lost(self, error: Exception | None) -> None:
        """End; who awaits the answer still gets the error."""
        super().connection_lost(error)
        if self.on_data.done() and not self.on_data.cancelled():
            self.on_data.exception()


connect_utils.TLSUpgradeProto = Upgrade


async def connect(*args: Any, **kwargs: Any) -> Any:
    """Return a connection, in the way of `asyncpg.connect`."""
    return await cast("Any", asyncpg).connect(*args, **{"connection_class": Connection, **kwargs})
