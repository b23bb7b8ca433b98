"""The stock of the items that somebody looks at, told as it changes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from dbscope import DBScopeError
from server.db.database import db
from server.models import Stock

logger = logging.getLogger("server.live")
EVERY = 2.0  # seconds: what other processes have changed is seen as late
ROOM = 1000  # sockets in one process

Changes = asyncio.Queue[int]


class Board:
    """Who looks at which item; the stock is read for all of them at once."""

    def __init__(self) -> None:
        self._watchers: dict[int, set[Changes]] = {}
        self._bell = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether there is room for nobody else."""
        return sum(map(len, self._watchers.values())) >= ROOM

    async def ring(self) -> None:
        """Look at once: a transaction of this process has changed something."""
        self._bell.set()

    @contextmanager
    def watching(self, item_id: int) -> Iterator[Changes]:
        """Be told how many are left of an item, whenever that changes."""
        changes: Changes = asyncio.Queue(1)
        self._watchers.setdefault(item_id, set()).add(changes)
        try:
            yield changes
        finally:
            self._watchers[item_id].discard(changes)
            if not self._watchers[item_id]:
                del self._watchers[item_id]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look again and again, as long as it lasts."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        known: dict[int, int] = {}
        while True:
            try:
                known = await self._look(known) if self._watchers else {}
            except (DBScopeError, SQLAlchemyError) as error:
                logger.warning("The stock cannot be looked at: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._bell.wait()
            self._bell.clear()

    async def _look(self, known: dict[int, int]) -> dict[int, int]:
        async with db.scope(readonly=True):
            query = select(Stock.item_id, Stock.remaining)
            rows = await db.execute(query.where(Stock.item_id.in_(list(self._watchers))))
            found = {row.item_id: row.remaining for row in rows}
        for item_id, remaining in found.items():
            if known.get(item_id) != remaining:
                for changes in self._watchers.get(item_id, ()):
                    put(changes, remaining)
        return found


def put(changes: Changes, remaining: int) -> None:
    """Leave the newest number; who is slow misses those before."""
    with suppress(asyncio.QueueEmpty):
        changes.get_nowait()
    changes.put_nowait(remaining)


board = Board()
