"""What a watch asks the engine's side of a database, beyond what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from dbscope.aio import threads
from dbscope.aio.collecting import keep_for_good
from dbscope.aio.concurrency import in_greenlet
from dbscope.backends import errors
from dbscope.backends.literals import literals_of
from dbscope.backends.registry import driver_of
from dbscope.backends.without_data import code_of, without_data
from dbscope.errors import ConfigurationError
from dbscope.watch.sql import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Dialect, Engine

    from dbscope.backends.base import Backend
    from dbscope.backends.lock_waits import LockWait, LockWaits
    from dbscope.engine.settings import Settings
    from dbscope.unit.unit import Unit


class Watching:
    """What one database can be asked.

    Args:
        backend: that of the database.
        settings: what was given to the database.
        engine: gives the plain engine, which is made at the first call.
        is_async: whether that waits in greenlets.
    """

    def __init__(
        self,
        backend: Backend,
        settings: Settings,
        engine: Callable[[], Engine],
        *,
        is_async: bool,
    ) -> None:
        self.backend = backend
        self.settings = settings
        self.engine = engine
        self.is_async = is_async
        self._locks: LockWaits | None = None
        self._can_ask = True
        self.literals = literals_of(backend.features.family)
        self.statements = Known(self.literals)
        self.commits_definitions = backend.features.commits_definitions

    def process_of(self, unit: Unit) -> int | None:
        """Return the process of the server that a unit has now; None if that is not known."""
        connection = unit.connection
        try:
            return None if connection is None else self.backend.process_of(connection)
        except Exception:  # it is given back at this moment
            return None

    def lock_waits(self, units: Iterable[Unit]) -> list[LockWait]:
        """Ask the server which of these waits for a lock; blocks, so only a thread may ask."""
        if self._locks is None and self._can_ask:
            self._locks = self.backend.lock_waits(self.settings.engine_options)
            self._can_ask = self._locks is not None
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

    async def plan(self, sql: str) -> list[str]:
        """Return how the database would do a SELECT, which is not done.

        Args:
            sql: with ? for each value.

        Raises:
            ConfigurationError: the database cannot tell without the values.
        """
        carried = in_greenlet if self.is_async else threads.in_thread
        return await carried(self._plan, sql)

    def _plan(self, sql: str) -> list[str]:
        with self.engine().connect() as connection:
            try:
                return self.backend.plan(connection, sql)
            except SQLAlchemyError as error:
                code = errors.sqlstate(error) or type(error.__cause__ or error).__name__
                told = f"It cannot be explained without values: the database says {code}."
                raise ConfigurationError(told) from None
            finally:
                connection.rollback()

    def start_anew(self) -> None:
        """Ask on a connection of its own, in a process that was forked."""
        keep_for_good(self._locks)
        self._locks = None

    def forget(self) -> None:
        """Ask no more."""
        if self._locks is not None:
            self._locks.close()
