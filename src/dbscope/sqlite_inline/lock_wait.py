"""Locks that somebody else holds: asked for again after a pause, and told of when that is over."""

from __future__ import annotations

import sqlite3
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIMARY = 0xFF  # of the extended result codes (https://sqlite.org/rescode.html)
BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.05  # seconds


def code_of(error: BaseException) -> int:
    """Return SQLite's extended result code; -1: Python's own error."""
    return getattr(error, "sqlite_errorcode", -1)


def is_busy(error: BaseException) -> bool:
    """Tell whether the same statement may succeed a little later.

    A read lock that has become stale stays so (https://sqlite.org/rescode.html#busy_snapshot).
    """
    code = code_of(error)
    return code & PRIMARY in BUSY and code != sqlite3.SQLITE_BUSY_SNAPSHOT


def is_interrupted(error: BaseException) -> bool:
    """Tell whether a statement was ended by its progress handler, or by `interrupt()`."""
    return code_of(error) == sqlite3.SQLITE_INTERRUPT


def pauses(seconds: float) -> Iterator[float]:
    """Give the pauses between two tries, for so long in all.

    Examples:
        >>> list(pauses(0))
        []
    """
    end, pause = monotonic() + seconds, FIRST_PAUSE
    while (left := end - monotonic()) > 0:
        yield min(pause, left)
        pause = min(2 * pause, LONGEST_PAUSE)


def locked(error: sqlite3.OperationalError | None, holder: object) -> sqlite3.OperationalError:
    """Return the error for a lock that was not given in time; it says who has it, if we know."""
    by = f" by {holder}" if holder else ""
    busy = sqlite3.OperationalError(f"database is locked{by}")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY if error is None else code_of(error)
    busy.sqlite_errorname = "SQLITE_BUSY" if error is None else error.sqlite_errorname
    return busy
