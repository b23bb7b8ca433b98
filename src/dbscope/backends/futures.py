"""Which drivers wait for plain futures only."""

from __future__ import annotations

from typing import Any

# Drivers of which COMMIT and ROLLBACK are known to do so.
PLAIN = frozenset({"aiosqlite", "asyncpg", "inline"})

PLAIN_PSYCOPG = (3, 3, 6)  # before, it waits in `asyncio.wait_for`


def waits_plainly(dialect: Any) -> bool:
    """Tell whether this driver waits for plain futures only."""
    if dialect.driver == "psycopg":
        return tuple(dialect.psycopg_version) >= PLAIN_PSYCOPG
    return dialect.driver in PLAIN
