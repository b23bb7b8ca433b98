"""A file that one holds at a time, beside the database: for what SQLite has no locks of its own."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from dbscope.backends import errors


class FileLock:
    """Holds a file by SQLite's own locks, which every system has; it stays, and stays empty.

    Deleting it would let a second process make another one while a third has this one open. The
    lock vanishes with the process that has it.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def take(self) -> bool:
        """Take it, if nobody has it."""
        file = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            file.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            file.close()
            if error.sqlite_errorcode & errors.PRIMARY != sqlite3.SQLITE_BUSY:
                raise
            return False
        self._connection = file
        return True

    def give_back(self) -> None:
        """Let another one have it."""
        file, self._connection = self._connection, None
        if file is not None:
            with suppress(sqlite3.Error):
                file.close()
