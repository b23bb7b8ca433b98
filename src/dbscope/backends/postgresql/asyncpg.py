"""asyncpg's connection, which reads the answer to COMMIT.

In a transaction that has failed the server answers COMMIT by ROLLBACK, and by no error
(PostgreSQL, "COMMIT"). What has failed may have gone past SQLAlchemy, as a COPY does.

A connection becomes such a one when it is made, by whomever and of whatever class: an engine may be
made elsewhere, and an application may have a class of its own.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from dbscope.errors import ConfigurationError, UnexpectedRollback


class ReadsAnswer:
    """What a connection of asyncpg has on top, so that its COMMIT is one."""

    __slots__ = ()

    async def execute(self, query: str, *args: Any, **kwargs: Any) -> str:
        """Execute; a COMMIT that has rolled back is an error."""
        status: str = await cast("Any", super()).execute(query, *args, **kwargs)
        if status == "ROLLBACK" and query == "COMMIT;":  # as asyncpg's transactions send it
            raise UnexpectedRollback("At COMMIT:")
        return status


@cache
def with_answer(cls: Any) -> Any:
    """Return a class of connections with that on top; it has nothing more to remember."""
    return type(cls)(cls.__name__, (ReadsAnswer, cls), {"__slots__": ()})


def read_answer(connection: Any) -> None:
    """Make a new connection of asyncpg one that reads the answer to COMMIT.

    Args:
        connection: the driver's, or what a pool of asyncpg's has around it.

    Raises:
        ConfigurationError: its class does not let us.
    """
    driver = getattr(connection, "_con", connection)
    if isinstance(driver, ReadsAnswer):
        return
    try:
        driver.__class__ = with_answer(driver.__class__)
    except TypeError as error:
        raise ConfigurationError(
            f"The connection {driver!r} cannot be made to read the answer to COMMIT ({error}); "
            "let it be a subclass of asyncpg.Connection."
        ) from error
