"""PostgreSQL: psycopg's async connection, which ends though the server no longer answers."""

from __future__ import annotations

from typing import Any


def engine_options() -> dict[str, Any]:
    """Return what `create_async_engine` needs for psycopg."""
    return {"connect_args": {"async_creator_fn": _connect}}


async def _connect(*args: Any, **kwargs: Any) -> Any:
    from dbscope.engine.psycopg import AsyncConnection

    return await AsyncConnection.connect(*args, **kwargs)
