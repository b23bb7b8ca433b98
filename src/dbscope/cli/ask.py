"""A question to the database, which is answered in time or not at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine

from dbscope import AsyncDatabase
from dbscope.cli.find import AnyDatabase

T = TypeVar("T")


def ask(db: AnyDatabase, question: Callable[[Connection], T], seconds: float) -> T:
    """Call a function with a connection, as the application gets its connections.

    Args:
        db: either kind; the function is given a plain connection.
        question: what to do with it.
        seconds: how long it may take, with connecting.

    Raises:
        TimeoutError: it took longer.
    """

    def ask_plain(engine: Engine) -> T:
        try:
            with engine.connect() as connection:
                return question(connection)
        finally:
            engine.dispose()

    async def ask_async(db: AsyncDatabase) -> T:
        try:
            async with db.engine.connect() as connection:
                return await connection.run_sync(question)
        finally:
            await db.dispose()

    if isinstance(db, AsyncDatabase):
        return in_time(lambda: asyncio.run(ask_async(db)), seconds)
    return in_time(lambda: ask_plain(db.engine), seconds)


def in_time(function: Callable[[], T], seconds: float) -> T:
    """Call a function in a thread that is left behind if it takes longer.

    The drivers' own limits are not enough: a server that accepts, and then says nothing, is waited
    for without end.

    Raises:
        TimeoutError: it took longer.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True, name="dbscope-ask").start()
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():
            raise
        raise TimeoutError(f"It did not answer within {seconds:g} seconds.") from None


def plain_engine(db: AnyDatabase) -> Engine:
    """Return the plain engine of a database, which for the async kind is the one inside.

    Raises:
        ConfigurationError: the driver is not installed.
    """
    return db.engine.sync_engine if isinstance(db, AsyncDatabase) else db.engine


@cache  # to look at the disk would stop an event loop
def file_of(db: AnyDatabase) -> Path | None:
    """Return the file that a database is, in short; None: it is a server, or in memory."""
    if db.backend.file is None:
        return None
    file, here = Path(db.backend.file), Path.cwd().resolve()
    return file.relative_to(here) if file.is_relative_to(here) else file
