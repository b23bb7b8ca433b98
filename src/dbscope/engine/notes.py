"""Notes on errors of others: what to do about them here.

The errors stay what they are, since applications catch them; a note is shown with the traceback.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.orm.exc import DetachedInstanceError

from dbscope.backends import errors

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

MISSING = (
    "The table is not there. `db.ensure_schema(Base.metadata)` creates those that are missing; "
    "where there are migrations, `dbscope upgrade` does."
)
DETACHED = (
    "An object outlives the scope that it was loaded in, and what is not loaded by then cannot be "
    "read any more. Load it inside the scope: `selectinload(...)` in the query, or "
    '`refresh(obj, ["name"])`.'
)
ATTACHED = (
    "An object is in one session, and its own is that of another scope, or one that was made by "
    "hand, and still open. Load it in this scope, or work with the copy that "
    "`session.merge(obj)` gives."
)


def add(error: DBAPIError) -> None:
    """Note what is to be done about an error of the database, if that can be said."""
    if errors.is_missing_table(error.orig):
        error.add_note(MISSING)


@cache
def watch() -> None:
    """Note on each error about an object without a session why it has none, from now on."""
    errors: Any = DetachedInstanceError
    make = errors.__init__

    def make_with_note(self: Exception, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        self.add_note(DETACHED)

    errors.__init__ = cast("Any", make_with_note)
