"""What comes of a statement: all of its rows at once, or a cursor that has them still to fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import sqlite3

Rows = list[Any]


class Answer(NamedTuple):
    """What came of a statement."""

    rows: Rows
    description: Any
    rowcount: int
    lastrowid: int | None


def answer(cursor: sqlite3.Cursor, sql: str, parameters: Any, many: bool, fetches: bool) -> Answer:
    """Run a statement; unless its rows are to be fetched later, that is all of it."""
    try:
        (cursor.executemany if many else cursor.execute)(sql, parameters)
        rows = cursor.fetchall() if fetches and cursor.description is not None else []
        return Answer(rows, cursor.description, cursor.rowcount, cursor.lastrowid)
    finally:
        if fetches:
            # Left to the garbage collector, it would reset a statement that somebody else has
            # from the cache by then, maybe in a thread.
            cursor.close()
