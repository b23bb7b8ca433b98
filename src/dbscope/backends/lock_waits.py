"""Who waits for a lock of whom, as a server knows: asked on a connection of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import URL, Connection, Engine


@dataclass(frozen=True, slots=True)
class LockWait:
    """One process of the server that waits for another."""

    waiter: int
    holder: int
    what: str
    told: str  # of the holder, for when it is none of ours


class LockWaits(ABC):
    """The one who asks; from a thread that may wait.

    Args:
        url: of the database, whatever its driver.
        options: of its engine.
    """

    driver: ClassVar[str]  # by which a thread can ask

    def __init__(self, url: URL, options: dict[str, Any]) -> None:
        is_own = self.package() in url.drivername
        self._engine: Engine = create_engine(
            url.set(drivername=self.driver),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=options.get("connect_args", {}) if is_own else {},
        )
        self._connection: Connection | None = None

    @classmethod
    def package(cls) -> str:
        """Return the package of the driver."""
        return cls.driver.partition("+")[2]

    @classmethod
    def is_possible(cls) -> bool:
        """Tell whether the driver is installed."""
        return find_spec(cls.package()) is not None

    def ask(self, processes: Collection[int]) -> list[LockWait]:
        """Return who of these processes waits, and for whom."""
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            return self.found(self._connection, list(processes))
        except Exception:
            self.close()  # the next one who asks has a new connection
            raise

    def close(self) -> None:
        """Ask no more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @abstractmethod
    def found(self, connection: Connection, processes: list[int]) -> list[LockWait]:
        """Return what the server says."""
