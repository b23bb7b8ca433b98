"""A second connection, for a scope inside a scope that holds one.

All who hold a connection may come to wait for a second one, which only they could give back. So
at most as many may wait as leave one connection to somebody who does not.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dbscope.engine.pool import capacity
from dbscope.errors import PoolTimeout, TransactionManagementError
from dbscope.unit.current import open_scope
from dbscope.watch.events import SecondConnectionTaken

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sqlalchemy import Engine

    from dbscope.unit.source import Source
    from dbscope.unit.unit import Unit


class SecondConnections:
    """Who waits for a second connection of one database."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._waiting: dict[Any, set[Unit]] = {}  # and who holds one meanwhile
        self._mutex = threading.Lock()

    def want(self, unit: Unit, engine: Engine) -> None:
        """Note that a unit is about to take a connection.

        Raises:
            PoolTimeout: all who hold a connection would wait for another.
        """
        around = list(holders_around(self.source, unit))
        if not around:
            return
        holders = {each for each in around if pool_of(each) is engine.pool}
        self._enter(unit, holders, engine, around[0])

    @contextmanager
    def beside(self, who: object, engine: Engine) -> Generator[None]:
        """Take a connection that belongs to no scope, beside those of the scope that is open here.

        Raises:
            PoolTimeout: all who hold a connection would wait for another.
        """
        scope = open_scope()
        mine = None if scope is None else scope.units.get(self.source)
        around = [] if mine is None else [mine, *holders_around(self.source, mine)]
        holders = {each for each in around if pool_of(each) is engine.pool}
        if any(each.connection is not None for each in around):
            self._enter(who, holders, engine, around[0])
        try:
            yield
        finally:
            self.have(who)

    def _enter(self, who: Any, holders: set[Unit], engine: Engine, nearest: Unit) -> None:
        room = capacity(engine) if holders else None
        with self._mutex:
            self.source.events.tell(SecondConnectionTaken, who, nearest)
            if room is not None and len(holders.union(*self._waiting.values())) >= room:
                name = getattr(who, "scope", who)
                raise PoolTimeout(f"{name} would wait for ever. {describe(nearest)}")
            self._waiting[who] = holders

    def have(self, who: Any) -> None:
        """Note that somebody has the connection, or has given up."""
        if self._waiting:
            with self._mutex:
                self._waiting.pop(who, None)


def holders_around(source: Source, unit: Unit) -> Iterator[Unit]:
    """Give the units of the scopes around this one's that hold a connection, the nearest first."""
    for scope in unit.scope.with_ancestors():
        other = scope.units.get(source)
        if other is not None and other is not unit and other.connection is not None:
            yield other


def holder_around(source: Source, unit: Unit) -> Unit | None:
    """Return the unit of a scope around this one's that holds a connection."""
    return next(holders_around(source, unit), None)


def pool_of(unit: Unit) -> object:
    """Return the pool of the connection that a unit holds; None if it holds none."""
    return None if unit.connection is None else unit.connection.engine.pool


def describe(holder: Unit) -> str:
    """Say that a scope around holds a connection."""
    return (
        "A scope around it holds another one: a `scope()` inside a scope takes a second. "
        f"It is {holder.scope}."
    )


def check_room(source: Source, holder: Unit) -> None:
    """Raise TransactionManagementError if the pool has only the connection that the holder has."""
    if holder.connection is not None and capacity(holder.connection.engine) == 1:
        raise TransactionManagementError(
            f"A second connection of {source} is needed, and its pool has only the one that "
            f"{holder.scope}, around it, holds. Raise `pool_size`, or end the outer transaction "
            "first."
        )
