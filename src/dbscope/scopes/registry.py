"""The registry of `db.scoped_session`: one global object for the session of the current scope."""

from __future__ import annotations

from typing import Any, Protocol

from sqlalchemy.util import ScopedRegistry

from dbscope.unit.current import current, open_scope


class HasSession(Protocol):
    """A database."""

    @property
    def session(self) -> Any:
        """Return the session of the current scope."""
        ...


class CurrentSession(ScopedRegistry[Any]):
    """The registry of `scoped_session`: it keeps nothing, the scope does."""

    def __init__(self, database: HasSession) -> None:
        super().__init__(lambda: database.session, current.get)

    def __call__(self) -> Any:
        """Return the session of the current scope."""
        return self.createfunc()

    def has(self) -> bool:
        """Tell whether there is a scope to have a session in."""
        return open_scope() is not None

    def clear(self) -> None:
        """Forget nothing; the session ends with its scope."""
