"""What a watch asks the engine's side of a database, beyond what it is told."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from dbscope.backends.registry import driver_of
from dbscope.backends.without_data import code_of, without_data

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Dialect

    from dbscope.backends.base import Backend
    from dbscope.backends.lock_waits import LockWait, LockWaits
    from dbscope.engine.settings import Settings
    from dbscope.unit.unit import Unit


class Watching:
    """What one database can be asked.

    Args:
        backend: of the database.
        settings: likewise.
    """

    def __init__(self, backend: Backend, settings: Settings) -> None:
        self.backend = backend
        self.settings = settings

    def process_of(self, unit: Unit) -> int | None:
        """Return the process of the server that a unit has now; None if that is not known."""
        connection = unit.connection
        try:
            return None if connection is None else self.backend.process_of(connection)
        except Exception:  # it is given back at this moment
            return None

    def lock_waits(self, units: Iterable[Unit]) -> list[LockWait]:
        """Ask the server which of these waits for a lock; blocks, so only a thread may ask."""
        if self._locks is None:
            return []
        found = [process for unit in units if (process := self.process_of(unit)) is not None]
        return self._locks.ask(found) if found else []

    def without_data(self, error: BaseException) -> str:
        """Say what an error of a driver is, without what people have entered."""
        return without_data(error)

    def code_of(self, error: BaseException) -> str | None:
        """Return the code of an error of a driver; None if it has none."""
        return code_of(error)

    def statement_cache(self, dialect: Dialect) -> str:
        """Say what becomes of a driver's statements if each has a text of its own; "": nothing."""
        return driver_of(dialect).statement_cache

    def forget(self) -> None:
        """Ask no more."""
        if self._locks is not None:
            self._locks.close()

    @cached_property
    def _locks(self) -> LockWaits | None:
        return self.backend.lock_waits(self.settings.engine_options)
