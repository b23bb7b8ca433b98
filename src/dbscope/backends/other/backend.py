"""A database of which nothing is known but what SQLAlchemy's dialect says.

It has COMMIT, ROLLBACK, and savepoints where its dialect has them. An isolation level is passed on
if the dialect has a way to set one; all else that it may be asked for is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.engine.default import DefaultDialect

from dbscope.backends.base import Backend
from dbscope.backends.features import Features

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect


class Other(Backend):
    """One of them."""

    @classmethod
    def features_of(cls, dialect: Dialect | type[Dialect]) -> Features:
        """Return what SQLAlchemy itself does for this dialect."""
        kind = dialect if isinstance(dialect, type) else type(dialect)
        sets_isolation = kind.set_isolation_level is not DefaultDialect.set_isolation_level
        return Features(name=dialect.name, isolation=sets_isolation)
