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

STALE = 0.9  # of the time that was set: it is set again when less than this part is left


def tell(unit: Unit, connection: Connection, limit: Limit) -> None:
    """Set the longest time of a statement, for this transaction.

    A statement may take all that was set, so it is set again when a tenth of it has passed.

    Args:
        unit: whose deadline it is.
        connection: that of its transaction.
        limit: makes the statement for so many milliseconds; None: for what it is without us.
    """
    end = unit.deadline
    left = inf if end is None else max(end - monotonic(), 0.001)
    set_end, set_left = unit.server_limit or (None, 0.0)
    if set_end == end and left > set_left * STALE:
        return
    unit.server_limit = (end, left)
    milliseconds = None if end is None else max(1, round(left * 1000))
    connection.exec_driver_sql(limit(connection, milliseconds)).close()


def forget(unit: Unit, connection: Connection, limit: Limit) -> None:
    """Set it to what it is without us."""
    if unit.server_limit is not None and unit.server_limit[0] is not None:
        connection.exec_driver_sql(limit(connection, None)).close()
    unit.server_limit = None
