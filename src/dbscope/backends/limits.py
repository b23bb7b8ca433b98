"""The deadline of a block, told to a server as the longest time of a statement."""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from dbscope.unit.unit import Unit

    Limit = Callable[[Connection, int | None], str]

STALE = 0.9  # of the time that was told: it is told again when less than this part is left


def tell(unit: Unit, connection: Connection, limit: Limit) -> None:
    """Set the longest time of a statement, for this transaction.

    A statement may take all that was told, so it is told again when a tenth of it has passed.

    Args:
        unit: whose deadline it is.
        connection: that of its transaction.
        limit: makes the statement for so many milliseconds; None: for what it is without us.
    """
    end = unit.deadline
    left = inf if end is None else max(end - monotonic(), 0.001)
    told_end, told_left = unit.told or (None, 0.0)
    if told_end == end and left > told_left * STALE:
        return
    unit.told = (end, left)
    milliseconds = None if end is None else max(1, round(left * 1000))
    connection.exec_driver_sql(limit(connection, milliseconds)).close()


def forget(unit: Unit, connection: Connection, limit: Limit) -> None:
    """Set it to what it is without us."""
    if unit.told is not None and unit.told[0] is not None:
        connection.exec_driver_sql(limit(connection, None)).close()
    unit.told = None
