"""A database of which nothing is known but what SQLAlchemy's dialect says.

It has COMMIT, ROLLBACK, and savepoints unless the database itself does not know them. An isolation
level is passed on if the dialect has a way to set one; all else that it may be asked for is
refused.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import NotSupportedError, ProgrammingError

from dbscope.backends.base import Backend
from dbscope.backends.features import Features
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import Dialect


class Other(Backend):
    """One of them."""

    @classmethod
    def features_of(cls, dialect: Dialect | type[Dialect]) -> Features:
        """Return what SQLAlchemy itself does for this dialect."""
        kind = dialect if isinstance(dialect, type) else type(dialect)
        sets_isolation = kind.set_isolation_level is not DefaultDialect.set_isolation_level
        return Features(name=dialect.name, isolation=sets_isolation)

    def install(self, engine: Engine) -> None:
        """Say in a sentence what the database or its driver has not: no dialect tells before."""
        dialect: Any = engine.dialect
        dialect.do_savepoint = partial(self._begin_savepoint, dialect.do_savepoint)
        dialect.set_isolation_level = partial(self._set_isolation, dialect.set_isolation_level)

    def _begin_savepoint(
        self, begin: Callable[..., None], connection: Connection, name: str
    ) -> None:
        try:
            begin(connection, name)
        except (ProgrammingError, NotSupportedError) as error:
            raise ConfigurationError(
                f"{self.name}: a block inside a transaction asked for a savepoint, and a database "
                f"that is called {self.features.name!r} has none ({one_line(error.orig)}). Let the "
                "block join the transaction: `atomic(savepoint=False)`."
            ) from error

    def _set_isolation(self, set_level: Callable[..., None], connection: Any, level: Any) -> None:
        try:
            set_level(connection, level)
        except (AttributeError, NotImplementedError) as error:
            raise ConfigurationError(
                f"{self.name}: `isolation` was asked of a database that is called "
                f"{self.features.name!r}, whose dialect cannot set it ({one_line(error)}); "
                "leave it out."
            ) from error


def one_line(error: object) -> str:
    """Return the first line of what a driver says."""
    return str(error).partition("\n")[0]
