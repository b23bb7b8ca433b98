"""What a watch asks the engine's side of a database, beyond what it is told."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from dbscope.backends.postgresql import lock_waits
from dbscope.backends.postgresql.lock_waits import LockWait, LockWaits
from dbscope.engine import advisory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbscope.engine.source import EngineSource
    from dbscope.unit.unit import Unit


class Watching:
    """What one database can be asked.

    Args:
        source: the database.
    """

    def __init__(self, source: EngineSource) -> None:
        self.source = source

    def process_of(self, unit: Unit) -> int | None:
        """Return the process of the server that a unit has now; None if that is not known."""
        connection = unit.connection
        try:
            return None if connection is None else advisory.process_of(connection)
        except Exception:  # it is given back at this moment
            return None

    def lock_waits(self, units: Iterable[Unit]) -> list[LockWait]:
        """Ask the server which of these waits for a lock; blocks, so only a thread may ask."""
        if self._locks is None:
            return []
        found = [process for unit in units if (process := self.process_of(unit)) is not None]
        return self._locks.ask(found) if found else []

    def forget(self) -> None:
        """Ask no more."""
        if self._locks is not None:
            self._locks.close()

    @cached_property
    def _locks(self) -> LockWaits | None:
        if self.source.sql_family != "postgresql" or not lock_waits.is_possible():
            return None
        return LockWaits(self.source.url, dict(self.source.settings.engine_options))
