"""Results: what is left to be read of one, and one that is read before its connection goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy

if TYPE_CHECKING:
    from sqlalchemy import CursorResult


def context_of(result: Any) -> Any:
    """Return what SQLAlchemy keeps of a statement as long as somebody keeps its result."""
    return getattr(getattr(result, "raw", result), "context", None)


def hold_rows(result: CursorResult[Any]) -> None:
    """Read all rows of a result now: they can be asked for when its connection is gone.

    It stays SQLAlchemy's own result, with all that it knows besides its rows.
    """
    strategy: Any = result.cursor_strategy
    cursor: Any = result.cursor
    result.cursor_strategy = FullyBufferedCursorFetchStrategy(
        cursor, strategy.alternate_cursor_description, strategy.fetchall(result, cursor)
    )
