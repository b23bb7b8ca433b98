"""asyncpg's connection, which reads the answer to COMMIT.

In a transaction that has failed the server answers COMMIT by ROLLBACK, and by no error
(PostgreSQL, "COMMIT"). What has failed may have gone past SQLAlchemy, as a COPY does.
"""

from __future__ import annotations

from typing import Any, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from dbscope.errors import UnexpectedRollback


class Connection(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    """A connection whose COMMIT is one."""

    async def execute(self, query: str, *args: Any, **kwargs: Any) -> str:
        """Execute; a COMMIT that has rolled back is an error."""
        status: str = await cast("Any", super()).execute(query, *args, **kwargs)
        if status == "ROLLBACK" and query == "COMMIT;":  # as asyncpg's transactions send it
            raise UnexpectedRollback("At COMMIT:")
        return status


async def connect(*args: Any, **kwargs: Any) -> Any:
    """Return a connection, in the way of `asyncpg.connect`."""
    return await cast("Any", asyncpg).connect(*args, **{"connection_class": Connection, **kwargs})
