"""The deadline of a block, for SQLite: it looks at the clock itself, every few steps.

https://sqlite.org/c3ref/progress_handler.html
"""

from __future__ import annotations

from inspect import isawaitable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.util import await_only

from dbscope.backends.sqlite import recipe

if TYPE_CHECKING:
    from sqlalchemy import Connection

CELL = "dbscope.deadline"
STEPS = 10_000  # of SQLite's virtual machine, between two looks at the clock


def tell(connection: Connection, end: float | None) -> None:
    """Tell a connection when its statements end at the latest."""
    inline = recipe.inline_of(connection)
    if inline is not None:
        inline.calls.deadline = inf if end is None else end
    elif end is not None or CELL in connection.info:
        cell_of(connection)[0] = end


def cell_of(connection: Connection) -> list[float | None]:
    """Return where the progress handler of this connection looks for the deadline."""
    if CELL not in connection.info:
        cell: list[float | None] = [None]
        connection.info[CELL] = cell
        driver: Any = connection.connection.driver_connection
        result = driver.set_progress_handler(lambda: has_passed(cell), STEPS)
        if isawaitable(result):
            await_only(result)
    return cast("list[float | None]", connection.info[CELL])


def has_passed(cell: list[float | None]) -> bool:
    """Tell whether the time is up; SQLite then interrupts the statement."""
    end = cell[0]
    return end is not None and monotonic() >= end
