"""Which of the two databases a job uses, and what waits for its COMMIT."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from dbscope import AsyncDatabase, Database, TransactionRequired

AnyDatabase = Database[Any] | AsyncDatabase[Any]


def plain(db: AnyDatabase) -> Database[Any]:
    """Return the database for plain code."""
    return db.sync if isinstance(db, AsyncDatabase) else db


def waiting(db: AnyDatabase) -> AsyncDatabase[Any]:
    """Return the database for async code."""
    return db if isinstance(db, AsyncDatabase) else db.async_


def of_this_code(db: AnyDatabase) -> AnyDatabase:
    """Return the database that the running code uses: plain code has no event loop around it."""
    return db if is_on_loop() else plain(db)


def is_on_loop() -> bool:
    """Tell whether an event loop runs this code."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def send_on_commit(db: AnyDatabase, send: Callable[[], object]) -> None:
    """Send after COMMIT, by a plain function: at once where there is no transaction.

    In async code it runs in a thread, since it waits for the broker; outside of any scope nobody
    awaits that, so it is called as it is.
    """
    here = of_this_code(db)
    if not isinstance(here, AsyncDatabase):
        here.on_commit(send)
        return
    try:
        here.on_commit(partial(asyncio.to_thread, send))
    except TransactionRequired:
        send()
