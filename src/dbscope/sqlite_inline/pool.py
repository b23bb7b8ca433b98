"""The pool of `sqlite+inline`, whose connections belong to no event loop."""

from __future__ import annotations
import asyncio
import os
import sqlite3
import weakref
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any
from sqlalchemy.dialects.sqlite.base import SQLiteExecutionContext
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import await_only
from sqlalchemy.util.queue import AsyncAdaptedQueue
from dbscope.aio import concurrency
from dbscope.sqlite_inline import files
from dbscope.sqlite_inline import pysqlite
from dbscope.sqlite_inline import worker_threads
from dbscope.sqlite_inline.connection import InlineConnection
from dbscope.sqlite_inline.queue import Queue, shared
from dbscope.sqlite_inline.classify import Statements
from dbscope.aio import threads
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from sqlalchemy import URL


KEPT = 15  # connections


class LoopQueue(AsyncAdaptedQueue[Any]):
    """The queue of a pool whose connections belong to no event loop."""

    _loop: asyncio.AbstractEventLoop | None = None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return a connection; asyncio's own queue waits in the loop in which it waited first."""
        loop = worker_threads.running_loop()
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

    _queue_class = LoopQueue

    def __init__(
        self,
        creator: Any,
        pool_size: int = KEPT,
        max_overflow: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(creator, pool_size, max_overflow, **options)
