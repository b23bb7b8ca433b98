"""What is said to those who take a database, a scope or a block for a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

OF_SQLMODEL = "exec"


class NoSession:
    """Something that is no session, and says where the session is."""

    __slots__ = ()

    if not TYPE_CHECKING:  # who checks types is told by them

        def __getattr__(self, name: str) -> Any:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            if not name.startswith("_") and (hasattr(Session, name) or name == OF_SQLMODEL):
                message += f"; the session has it: `db.session.{name}`"
            raise AttributeError(message, name=name, obj=self)
