"""The engine for read-only scopes: SQLAlchemy's view of the other one, with a pool of its own.

Whatever is said to the engine that people know (`db.engine`) is heard here too, before and after
this one is made, since nothing here has listeners of its own: a token for each connection
(`do_connect`), functions (`connect`), a tracer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.base import OptionEngine

from dbscope.backends.base import REFUSES
from dbscope.engine.connecting import SAY_WHY

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine, Pool
    from sqlalchemy.pool import ConnectionPoolEntry


class ReaderEngine(OptionEngine):
    """An engine whose connections cannot write, and which hears what is said to another.

    Args:
        main: the other.
        spare: an engine like that, of which only the pool is used.
        refuse: makes a new connection one that cannot write.
    """

    def __init__(self, main: Engine, spare: Engine, refuse: Callable[[Any], None]) -> None:
        self.main = main
        self.refuse = refuse
        self._hear(spare.dialect)
        spare.pool._dialect = main.dialect  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        self._own = spare.pool
        self.pool = spare.pool  # pyright: ignore[reportIncompatibleVariableOverride]
        super().__init__(main, {})

    def _hear(self, dialect: Any) -> None:
        # The spare engine's dialect only connects: all else is done by the dialect of the other.
        dialect.dispatch = self.main.dialect.dispatch
        dialect._has_events = True  # noqa: SLF001
        dialect.connect = self._connect

    def _connect(self, *args: Any, **kwargs: Any) -> Any:
        return self.main.dialect.connect(*args, **kwargs)

    def raw_connection(self) -> Any:
        """Take a connection, and say what an error of connecting means, as the other does."""
        return vars(self.main)[SAY_WHY](super().raw_connection)

    @property
    def pool(self) -> Pool:
        """The pool, whose events are those of the other engine's."""
        return self._own

    @pool.setter
    def pool(self, pool: Pool) -> None:
        pool.dispatch = Heard(self)  # type: ignore[assignment]
        self._own = pool

    def checkout(self, connection: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
        """Make a new connection one that cannot write, when all others are done with it."""
        if not record.info.get(REFUSES):
            self.refuse(connection)
            record.info[REFUSES] = True
        self.main.pool.dispatch.checkout(connection, record, proxy)


class Heard:
    """The events of a pool: those of another, which has a new pool after it was disposed."""

    def __init__(self, reader: ReaderEngine) -> None:
        self.__dict__["_reader"] = reader
        self.__dict__["checkout"] = reader.checkout

    def __getattr__(self, name: str) -> Any:
        """Return the listeners to an event."""
        return getattr(self._reader.main.pool.dispatch, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Let SQLAlchemy put listeners where there were none."""
        setattr(self._reader.main.pool.dispatch, name, value)
