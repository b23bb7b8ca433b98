"""One at a time, where rows cannot be locked: by a file, or in memory by a name."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dbscope.backends.sqlite.file_lock import FileLock
from dbscope.sqlite_inline import files

if TYPE_CHECKING:
    from sqlalchemy import URL

taken: set[str] = set()  # names of what somebody in this process does alone
mutex = threading.Lock()


class AloneInFile:
    """The lock of the one who does something to a database: in this process, and among processes.

    Args:
        url: of the database.
        what: is done; part of the name of the file.
    """

    def __init__(self, url: URL, what: str) -> None:
        path = files.path_of(url)
        self._name = f"{path or url}-{what}"
        self._file = None if path is None else FileLock(self._name)

    def take(self) -> bool:
        """Take it, if nobody has it."""
        with mutex:
            if self._name in taken:
                return False
            taken.add(self._name)
        is_mine = False
        try:
            is_mine = self._file is None or self._file.take()
        finally:
            if not is_mine:
                self._forget()
        return is_mine

    def give_back(self) -> None:
        """Let another one have it."""
        if self._file is not None:
            self._file.give_back()
        self._forget()

    def _forget(self) -> None:
        with mutex:
            taken.discard(self._name)
