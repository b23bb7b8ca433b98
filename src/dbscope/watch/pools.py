"""How many connections a database has."""

from __future__ import annotations

from typing import NamedTuple


class PoolState(NamedTuple):
    """What one kind of a database has of connections at this moment."""

    name: str  # of the database, and of the kind
    used: int
    idle: int
    most: int | None  # that it may have; None: no limit
