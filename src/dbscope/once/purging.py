"""Forget what was kept for long enough."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, overload

from dbscope.aio import concurrency
from dbscope.once import store
from dbscope.once.claiming import session_of
from dbscope.scopes.scope import AsyncJobScope, SyncJobScope
from dbscope.unit.current import unit_of

if TYPE_CHECKING:
    from dbscope import AsyncDatabase, Database
    from dbscope.unit.source import Source

BATCH = 1000  # rows of one transaction, so that nobody waits for long


@overload
def purge(db: AsyncDatabase[Any], batch: int = BATCH) -> Coroutine[Any, Any, int]: ...
@overload
def purge(db: Database[Any], batch: int = BATCH) -> int: ...
def purge(db: Any, batch: int = BATCH) -> Any:
    """Delete the rows of `once` whose time is over, and return how many there were.

    Args:
        db: the database; of an `AsyncDatabase` it is to be awaited.
        batch: rows of one transaction.

    Example:
        >>> await purge(db)
    """
    source: Source = db._source  # noqa: SLF001
    return _purge_async(source, batch) if db.is_async else _purge(source, batch)


async def _purge_async(source: Source, batch: int) -> int:
    count, gone = 0, batch
    while gone == batch:
        async with AsyncJobScope():
            gone = await concurrency.in_greenlet(_purge_some, source, batch)
        count += gone
    return count


def _purge(source: Source, batch: int) -> int:
    count, gone = 0, batch
    while gone == batch:
        with SyncJobScope():
            gone = _purge_some(source, batch)
        count += gone
    return count


def _purge_some(source: Source, batch: int) -> int:
    return store.purge(session_of(unit_of(source)), batch)
