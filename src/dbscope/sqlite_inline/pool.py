"""The pool of `sqlite+inline`, whose connections belong to no event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util.queue import AsyncAdaptedQueue

from dbscope.aio import threads

KEPT = 15  # connections


class LoopQueue(AsyncAdaptedQueue[Any]):
    """The queue of a pool whose connections belong to no event loop."""

    _loop: asyncio.AbstractEventLoop | None = None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return a connection; asyncio's own queue waits in the loop in which it waited first."""
        loop = threads.running_loop()
        if self._loop is not loop:
            kept = self.__dict__.pop("_queue", None)
            self._loop = loop
            while kept is not None and not kept.empty():
                self.put_nowait(kept.get_nowait())
        return super().get(block, timeout)


class LoopPool(AsyncAdaptedQueuePool):
    """A pool for several event loops in turn.

    It keeps as many connections as SQLAlchemy's pools allow: to open one takes a thread, and longer
    than most requests.
    """

    _sqla_logger_namespace = "sqlalchemy.pool.LoopPool"  # as its documents say
    _queue_class = LoopQueue

    def __init__(
        self,
        creator: Any,
        pool_size: int = KEPT,
        max_overflow: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(creator, pool_size, max_overflow, **options)
