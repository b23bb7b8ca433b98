"""Results that are read in pieces, as far as a unit knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from dbscope.errors import TransactionManagementError

if TYPE_CHECKING:
    from dbscope.unit.unit import Unit


def is_read_from(context: Any) -> bool:
    """Tell whether the cursor of a statement is open; SQLAlchemy closes it behind the last row."""
    cursor = getattr(context.cursor, "_cursor", context.cursor)  # an adapter forgets it
    return cursor is not None and not getattr(cursor, "closed", False)


def note(unit: Unit, context: Any) -> None:
    """Note a result that is read in pieces, by what lives as long as it does."""
    if context is not None:
        unit.results = [kept for kept in unit.results if kept() is not None]
        unit.results.append(ref(context))


def has_open(unit: Unit) -> bool:
    """Tell whether somebody holds a result of which there is more at the server."""
    return any(is_read_from(context) for kept in unit.results if (context := kept()))


def left_open(unit: Unit) -> TransactionManagementError | None:
    """Return the error for a result that would be read when its transaction has ended."""
    if not (unit.results and has_open(unit)):
        return None
    return TransactionManagementError(
        f"{unit.scope} was about to be answered, or has ended, while a result of {unit.source} is "
        "still being read in pieces, and the end of its transaction closes it. Read all of it "
        "before. For the body of a response let the generator that reads it make the query; where "
        "a `@app.middleware` passes the response on, inside a `db.scope()` of its own."
    )
