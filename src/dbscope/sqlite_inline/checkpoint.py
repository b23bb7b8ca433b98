"""Checkpoints of a write-ahead log: in a thread, so that no COMMIT does one on the loop.

https://sqlite.org/wal.html#ckpt
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbscope.aio import concurrency, threads

if TYPE_CHECKING:
    from concurrent.futures import Future

    from dbscope.sqlite_inline.queue import Queue

logger = logging.getLogger("dbscope")

LOG = 4 * 1024 * 1024  # bytes: SQLite's own 1,000 pages
COMMITS = 250  # after so many it is looked whether the log is that long
CHANGES = 1_000  # … or so many rows
PATIENCE = 5.0  # seconds


class Checkpoints:
    """The checkpoints of one file.

    Args:
        file: its path.
        writers: who write to it on the loops of this process.
    """

    def __init__(self, file: str, writers: Queue[Any]) -> None:
        self.file = file
        self.writers = writers
        self._commits = self._changes = 0
        self.is_running = False
        self._job: Future[None] | None = None
        self._thread = 0  # that does it, and may collect a connection meanwhile

    def count(self, changes: int) -> None:
        """Count a COMMIT; start a checkpoint if it is time."""
        self._commits += 1
        self._changes += changes
        if (self._commits >= COMMITS or self._changes >= CHANGES) and not self.is_running:
            self._commits = self._changes = 0
            self.is_running = True
            self._job = threads.threads().submit(self._run)

    def wait(self) -> None:
        """Wait for the checkpoint that is being done, if there is one."""
        job = self._job
        if job is not None and self._thread != threading.get_ident():
            job.result()

    def _run(self) -> None:
        self._thread = threading.get_ident()
        try:
            if Path(f"{self.file}-wal").stat().st_size >= LOG:
                self._checkpoint()
        except (OSError, sqlite3.Error) as error:  # the file is gone, or somebody else's now
            logger.debug("No checkpoint of %s: %s", self.file, error)
        finally:
            self._thread = 0
            self.is_running = False

    def _checkpoint(self) -> None:
        name = f"{Path(self.file).as_uri()}?mode=rw"
        with closing(sqlite3.connect(name, uri=True, isolation_level=None)) as connection:
            bring_home(connection)
            # The others have written meanwhile, and only a log that is used up begins anew. So they
            # wait for the little that is left.
            if self.writers.take(self, PATIENCE, concurrency.ThreadGate):
                try:
                    bring_home(connection)
                    begin_anew(connection)
                finally:
                    self.writers.leave(self)


def begin_anew(connection: sqlite3.Connection) -> None:
    """Write next to nothing into a log that is used up: whoever does waits for the disk."""
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("COMMIT")


def bring_home(connection: sqlite3.Connection) -> None:
    """Write what the log has into the database, as far as no reader needs it there."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
