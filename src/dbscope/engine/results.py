"""Results: what is left to be read of one, until when, and one that is read before its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy

from dbscope.unit import deadline, results

if TYPE_CHECKING:
    from sqlalchemy import CursorResult

    from dbscope.unit.unit import Unit


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


class InTime:
    """Reads a result in pieces as long as its block has time.

    A server looks at the time of each statement, and a piece is one that never takes long.
    """

    def __init__(self, strategy: Any, unit: Unit) -> None:
        self._strategy, self._unit = strategy, unit

    def fetchone(self, *args: Any, **kwargs: Any) -> Any:
        """Give a row."""
        deadline.check(self._unit)
        return self._strategy.fetchone(*args, **kwargs)

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """Give rows."""
        deadline.check(self._unit)
        return self._strategy.fetchmany(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Give the rest."""
        return getattr(self._strategy, name)


def note_pieces(result: Any, unit: Unit) -> None:
    """Note a result that is read in pieces, for no longer than its block may take."""
    results.note(unit, context_of(result))
    raw: Any = getattr(result, "raw", result)
    if unit.timed and hasattr(raw, "cursor_strategy"):
        raw.cursor_strategy = InTime(raw.cursor_strategy, unit)
