"""What a COMMIT of a connection costs: on the loop only what does not wait for the disk."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from dbscope.sqlite_inline.checkpoint import Checkpoints
from dbscope.sqlite_inline.pysqlite import ask

if TYPE_CHECKING:
    import sqlite3

    from dbscope.sqlite_inline.queue import Queue

CHANGES = 1_000  # rows: from there on a COMMIT has much to write
FULL = 2  # of PRAGMA synchronous: each COMMIT waits for the disk


class Commits:
    """The COMMITs of one connection.

    Args:
        connection: the driver's.
        writers: those who write to its main database.
        in_memory: where that is.
    """

    __slots__ = (
        "_before",
        "_connection",
        "_in_memory",
        "_is_known",
        "_waits",
        "_writers",
        "heavy",
        "logs",
    )

    def __init__(
        self, connection: sqlite3.Connection, writers: Queue[Any], *, in_memory: bool
    ) -> None:
        self._connection = connection
        self._in_memory = in_memory
        self._writers = writers
        self._is_known = False
        self._waits = False  # for the disk
        self.logs: list[Checkpoints] = []
        self._before = 0
        self.heavy = False  # something long has written

    def begin(self) -> None:
        """Note that a transaction begins."""
        self._before = self._connection.total_changes
        self.heavy = False

    def are_short(self) -> bool:
        """Tell whether what was written is stored in no time."""
        if not self._is_known:
            self._ask()
        if self.heavy or self._waits or self._changes() >= CHANGES:
            return False
        # While a checkpoint waits for the disk, whoever writes to the log may have to wait, too.
        return not any(log.is_running for log in self.logs)

    def done(self) -> None:
        """Note a COMMIT that has written something."""
        if not self._is_known:
            self._ask()
        for log in self.logs:
            log.count(self._changes())
        self.begin()

    def forget(self) -> None:
        """Ask again what the connection was told: it may have been told something else."""
        self._is_known = False

    def _changes(self) -> int:
        return self._connection.total_changes - self._before

    def _ask(self) -> None:
        """Ask SQLite, which knows without looking at the disk."""
        files = self._files()
        has_log = self._one("journal_mode") == "wal"
        is_lazy = has_log and self._one("synchronous") < FULL and len(files) == 1
        self._waits = bool(files) and not is_lazy
        self.logs = [checkpoints_of(file, self._writers) for file in files if has_log]
        self._is_known = True

    def _files(self) -> list[str]:
        """Return the files that are written to; a database in memory may have a name, too."""
        listed = ask(self._connection, "PRAGMA database_list")
        named = [(name, file) for _, name, file in listed if file]
        return [
            os.path.realpath(file) for name, file in named if name != "main" or not self._in_memory
        ]

    def _one(self, name: str) -> Any:
        return ask(self._connection, f"PRAGMA {name}")[0][0]


def forget_checkpoints() -> None:
    """Start anew in a forked child, where no checkpoint of the parent is done."""
    _checkpoints.clear()


_checkpoints: WeakValueDictionary[str, Checkpoints] = WeakValueDictionary()
_mutex = threading.Lock()


def checkpoints_of(file: str, writers: Queue[Any]) -> Checkpoints:
    """Return the checkpoints of a file, which all connections of this process count for."""
    with _mutex:
        found = _checkpoints.get(file)
        if found is None:
            found = _checkpoints[file] = Checkpoints(file, writers)
        return found
