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

UNDEFINED_TABLE = "42P01"
NO_SUCH_TABLE = 1146  # of MySQL and MariaDB
MISSING = (
    "The table is not there. `db.ensure_schema(Base.metadata)` creates those that are missing; "
    "where there are migrations, `dbscope upgrade` does."
)
DETACHED = (
    "An object outlives the scope that it was loaded in, and what is not loaded by then cannot be "
    "read any more. Load it inside the scope: `selectinload(...)` in the query, or "
    '`refresh(obj, ["name"])`.'
)


def add(error: DBAPIError) -> None:
    """Note what is to be done about an error of the database, if that can be said."""
    if is_missing_table(error.orig):
        error.add_note(MISSING)


def is_missing_table(error: BaseException | None) -> bool:
    """Tell whether a statement was about a table that there is not.

    SQLite has one code for all that is wrong with a statement, so there its words have to tell.
    """
    if errors.sqlstate(error) == UNDEFINED_TABLE or errors.native_code(error) == NO_SUCH_TABLE:
        return True
    return str(error).startswith("no such table")


@cache
def watch() -> None:
    """Note on each error about an object without a session why it has none, from now on."""
    errors: Any = DetachedInstanceError
    make = errors.__init__

    def make_with_note(self: Exception, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        self.add_note(DETACHED)

    errors.__init__ = cast("Any", make_with_note)
