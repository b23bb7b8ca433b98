"""How the database is told the deadline of a block, so that it ends a statement by itself."""

from __future__ import annotations

from contextlib import contextmanager
from inspect import isawaitable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.util import await_only

from dbscope.backends import errors
from dbscope.backends.mysql import implicit_commit
from dbscope.backends.sqlite import recipe
from dbscope.unit import deadline

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection

    from dbscope.unit.unit import Unit

STALE = 0.9  # of the time that was told: it is told again when less than this part is left
CELL = "dbscope.deadline"
STEPS = 10_000  # of SQLite's virtual machine, between two looks at the clock


def keep(unit: Unit) -> None:
    """Check the time before a statement, and tell the database what is left of it.

    Raises:
        TransactionTimeout: the time is up; nothing was sent.
    """
    deadline.check(unit)
    connection = unit.connection
    if connection is not None:
        tell(unit, connection)


def tell(unit: Unit, connection: Connection) -> None:
    """Tell the database the time that is left, if it does not know yet."""
    backend = connection.dialect.name
    if backend == "sqlite":
        tell_sqlite(connection, unit.deadline)
    elif backend == "postgresql" or backend in implicit_commit.BACKENDS:
        tell_server(unit, connection)


def tell_server(unit: Unit, connection: Connection) -> None:
    """Set the longest time of a statement, for this transaction.

    A statement may take all that was told, so it is told again when a tenth of it has passed.
    """
    end = unit.deadline
    left = inf if end is None else max(end - monotonic(), 0.001)
    told_end, told_left = unit.told or (None, 0.0)
    if told_end == end and left > told_left * STALE:
        return
    unit.told = (end, left)
    set_limit(connection, None if end is None else left)


def set_limit(connection: Connection, seconds: float | None) -> None:
    """Set the longest time of a statement; None: what it is without us."""
    milliseconds = None if seconds is None else max(1, round(seconds * 1000))
    if connection.dialect.name == "postgresql":
        told = "DEFAULT" if milliseconds is None else milliseconds
        statement = f"SET LOCAL statement_timeout TO {told}"
    else:
        statement = implicit_commit.limit(connection.info, connection.dialect, milliseconds)
    connection.exec_driver_sql(statement).close()


def tell_sqlite(connection: Connection, end: float | None) -> None:
    """Tell a connection of SQLite when its statements end at the latest."""
    inline = recipe.inline_of(connection)
    if inline is not None:
        inline.calls.deadline = inf if end is None else end
    elif end is not None or CELL in connection.info:
        cell_of(connection)[0] = end


def cell_of(connection: Connection) -> list[float | None]:
    """Return where SQLite's progress handler of this connection looks for the deadline.

    https://sqlite.org/c3ref/progress_handler.html
    """
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


def forget(unit: Unit) -> None:
    """Tell the database that the deadline is no more: COMMIT may take as long as it needs."""
    connection = unit.connection
    if connection is None or connection.invalidated:
        return
    if connection.dialect.name == "sqlite":
        tell_sqlite(connection, None)
    if unit.told is not None and unit.told[0] is not None:
        set_limit(connection, None)
    unit.told = None


def patience(unit: Unit, seconds: float) -> float:
    """Return how long the unit may wait for something, at most these seconds."""
    end = unit.deadline
    return seconds if end is None else max(0.0, min(seconds, end - monotonic()))


@contextmanager
def instead_of(kind: type[Exception], unit: Unit) -> Generator[None, None, None]:
    """Raise TransactionTimeout from an error of this kind, if the time of the unit is up."""
    try:
        yield
    except kind as error:
        try:
            deadline.check(unit)
        except Exception as timeout:
            raise timeout from error
        raise


def is_timeout(unit: Unit, error: BaseException | None) -> bool:
    """Tell whether the database has ended a statement of the unit because its time was up."""
    block = unit.block
    return block is not None and deadline.is_over(block) and errors.is_interrupted(error)
