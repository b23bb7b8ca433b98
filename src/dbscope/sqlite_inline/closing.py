"""How a connection of `sqlite+inline` ends: in a thread, and once, whoever asks for it."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

from dbscope.aio import concurrency, threads
from dbscope.sqlite_inline import worker_threads
from dbscope.sqlite_inline.attributes import Attributes
from dbscope.sqlite_inline.pysqlite import own, roll_back

if TYPE_CHECKING:
    from weakref import WeakSet

    from dbscope.sqlite_inline.commits import Commits
    from dbscope.sqlite_inline.lifetime import Lifetime
    from dbscope.sqlite_inline.writer import Writer


class Closing(Attributes):
    """A connection that can be closed, and is when nobody has it any more."""

    __slots__ = ("__weakref__", "_streams", "commits", "writer")

    _streams: WeakSet[Any]
    commits: Commits
    writer: Writer

    def end_reading(self) -> None:
        """End what is only half read."""
        if self._streams:
            for stream in list(self._streams):
                stream.end()

    def close(self) -> None:
        """Interrupt what is being done, roll back and close, in a thread, which is waited for.

        The last one of a file does a checkpoint. Outside of a greenlet there is nobody who could
        wait for it, if there is a loop.
        """
        self.life.is_over = True
        if concurrency.is_in_greenlet():
            self.calls.wait_for(worker_threads.to_the_end(self.end))
        else:
            self._end_soon()

    terminate = close

    def _end_soon(self) -> None:
        loop = threads.running_loop()
        if loop is None:
            self.end()
        else:
            # Not at once: the garbage collector may have come in the middle of `submit`.
            loop.call_soon(threads.threads().submit, self.end)

    def __del__(self) -> None:
        """Give back what nobody can give back any more."""
        life: Lifetime | None = getattr(self, "life", None)
        if life is not None and (not life.is_over or self.writer.is_writing):
            self._end_soon()

    def end(self) -> None:
        """Interrupt, roll back and close, in this thread; who comes second waits for the first."""
        try:
            self.life.end(self._close, partial(sqlite3.Connection.interrupt, own(self._connection)))
        finally:
            self.writer.leave()
            for log in self.commits.logs:
                log.wait()  # whoever has closed all connections has the file for himself

    def _close(self) -> None:
        self.end_reading()
        roll_back(self._connection)
        sqlite3.Connection.close(own(self._connection))
