"""Results that are read in pieces, as far as a unit knows them."""

from __future__ import annotations

from typing import Any


def is_read_from(context: Any) -> bool:
    """Tell whether the cursor of a statement is open; SQLAlchemy closes it behind the last row."""
    cursor = getattr(context.cursor, "_cursor", context.cursor)  # an adapter forgets it
    return cursor is not None and not getattr(cursor, "closed", False)
