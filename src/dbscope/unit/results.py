"""Results that are read in pieces, as far as a unit knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

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
