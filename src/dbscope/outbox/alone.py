"""One relay at a time, where rows cannot be locked: on SQLite."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress

from sqlalchemy import URL

from dbscope.sqlite_inline import files

relayed: set[str] = set()  # names of the databases that have a relay in this process
mutex = threading.Lock()


class Alone:
    """The lock of the one relay of a SQLite database: of this process, and among processes.

    It vanishes with the process that has it.

    Args:
        url: of the database.
    """

    def __init__(self, url: URL) -> None:
        path = files.path_of(url)
        self._name = path or str(url)
        self._file = None if path is None else f"{path}-outbox"
        self._connection: sqlite3.Connection | None = None

    def take(self) -> bool:
        """Take it, if nobody has it."""
        with mutex:
            if self._name in relayed:
                return False
            relayed.add(self._name)
        if self._file is None or self._take_file(self._file):
            return True
        with mutex:
            relayed.discard(self._name)
        return False

    def _take_file(self, file: str) -> bool:
        connection = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
        self._connection = connection
        return True

    def give_back(self) -> None:
        """Let another one relay."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
        with mutex:
            relayed.discard(self._name)
