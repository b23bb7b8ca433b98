"""The pool of `Database`: a thread that waits for a connection takes nobody's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.pool import QueuePool

from dbscope.engine import carry

if TYPE_CHECKING:
    from sqlalchemy.pool import ConnectionPoolEntry


class ThreadQueuePool(QueuePool):
    """SQLAlchemy's queue pool, whose waiting threads do not count as busy ones."""

    def _do_get(self) -> ConnectionPoolEntry:
        if self.checkedin() or self.overflow() < self._max_overflow:
            return super()._do_get()
        with carry.uncounted():
            return super()._do_get()
