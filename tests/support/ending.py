"""A program that ends connections of SQLite in all ways, one after the other and at once.

    python -m tests.support.ending <driver> <state> <file> [all]

Without `all` only some pairs of ways, as `chosen` has it. It says each pair before it goes them, so
that its death names one. After each pair nobody holds a lock of the file, nor the turn to write.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn

from dbscope.sqlite_inline import files
from dbscope.sqlite_inline.queue import Queue, shared

ENDLESS = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c"
MANY = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 500) SELECT n FROM c"


class Subject:
    """A connection that is to end, in one of the states in which that may happen."""

    def __init__(self, engine: AsyncEngine, connection: AsyncConnection, dbapi: Any) -> None:
        self.engine = engine
        self.connection: AsyncConnection | None = connection
        self.dbapi = dbapi
        self.busy: list[asyncio.Task[Any]] = []
        self.kept: list[Any] = []

    @property
    def driver(self) -> Any:
        """Return the driver's own connection: that of sqlite3."""
        driver = self.dbapi.driver_connection
        return getattr(driver, "_connection", driver)


# -- states ----------------------------------------------------------------------------------------


async def idle(subject: Subject) -> None:
    """Do nothing."""


async def running(subject: Subject) -> None:
    """Run a statement in a thread."""
    assert subject.connection is not None
    subject.busy.append(asyncio.create_task(subject.connection.exec_driver_sql(ENDLESS)))
    await asyncio.sleep(0.005)


async def reading(subject: Subject) -> None:
    """Have a cursor that is half read."""
    assert subject.connection is not None
    result = await subject.connection.stream(text(MANY))
    await result.fetchone()
    subject.kept.append(result)


async def writing(subject: Subject) -> None:
    """Be in a transaction that has written."""
    assert subject.connection is not None
    await subject.connection.exec_driver_sql("INSERT INTO item VALUES (1)")


async def waiting(subject: Subject) -> None:
    """Wait for somebody else who writes."""
    assert subject.connection is not None
    other = await subject.engine.connect()
    await other.exec_driver_sql("BEGIN IMMEDIATE")
    subject.kept.append(other)
    writing = subject.connection.exec_driver_sql("INSERT INTO item VALUES (1)")
    subject.busy.append(asyncio.create_task(writing))
    await asyncio.sleep(0.005)


# -- ways to end -----------------------------------------------------------------------------------


async def close(subject: Subject) -> None:
    """As the pool does it."""
    await greenlet_spawn(subject.dbapi.close)


async def terminate(subject: Subject) -> None:
    """As the pool does it with what is lost."""
    await greenlet_spawn(subject.dbapi.terminate)


async def terminate_outside(subject: Subject) -> None:
    """As the pool does it where nothing can be awaited."""
    subject.dbapi.terminate()


async def close_by_hand(subject: Subject) -> None:
    """As somebody does it who has the driver's own connection."""
    subject.driver.close()


async def close_in_a_thread(subject: Subject) -> None:
    """As somebody does it in another thread."""
    await asyncio.to_thread(subject.driver.close)


async def terminate_in_a_thread(subject: Subject) -> None:
    """As the garbage collector does it in another thread."""
    thread = threading.Thread(target=subject.dbapi.terminate)
    thread.start()
    await asyncio.to_thread(thread.join)


async def interrupt(subject: Subject) -> None:
    """End the statement only."""
    subject.driver.interrupt()


async def cancel(subject: Subject) -> None:
    """Cancel who uses it."""
    for task in subject.busy:
        task.cancel()


async def invalidate(subject: Subject) -> None:
    """As an application does it."""
    if subject.connection is not None:
        await subject.connection.invalidate()


async def give_back(subject: Subject) -> None:
    """As an application does it most often."""
    if subject.connection is not None:
        await subject.connection.close()


async def dispose(subject: Subject) -> None:
    """Close all that nobody uses."""
    await subject.engine.dispose()


async def collect(subject: Subject) -> None:
    """Leave it to the garbage collector."""
    subject.connection = None
    subject.kept.clear()
    gc.collect()


async def fork(subject: Subject) -> None:
    """Fork, and let the child end it: it is the parent's."""
    child = os.fork()
    if child == 0:
        with suppress(Exception):
            subject.dbapi.life.in_use.acquire(timeout=1)
        with suppress(BaseException):
            subject.driver.close()
        os._exit(0)
    for _ in range(1000):
        if os.waitpid(child, os.WNOHANG)[0]:  # noqa: ASYNC222
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the child does not end")


STATES = (idle, running, reading, writing, waiting)
WAYS: tuple[Callable[[Subject], Any], ...] = (
    close,
    terminate,
    terminate_outside,
    close_by_hand,
    close_in_a_thread,
    terminate_in_a_thread,
    interrupt,
    cancel,
    invalidate,
    give_back,
    dispose,
    collect,
    fork,
)


async def end(driver: str, state: Any, ways: Any, file: str, *, at_once: bool) -> None:
    """End a connection in this state in two ways; then nobody may hold anything."""
    engine = create_async_engine(f"sqlite+{driver}:///{file}", **options_of(driver))
    event.listen(engine.sync_engine, "connect", log)
    connection = await engine.connect()
    raw = await connection.get_raw_connection()
    subject = Subject(engine, connection, raw.dbapi_connection)
    del connection, raw
    await state(subject)
    calls = [way(subject) for way in ways]
    if at_once:
        await asyncio.gather(*calls, return_exceptions=True)
    else:
        for call in calls:
            with suppress(Exception):
                await call
    await clean(subject)
    await free(file)


async def clean(subject: Subject) -> None:
    """End what is left."""
    for other in subject.kept:
        if isinstance(other, AsyncConnection):
            await other.rollback()
            await other.close()
    subject.kept.clear()
    await greenlet_spawn(subject.dbapi.terminate)
    await asyncio.wait_for(asyncio.gather(*subject.busy, return_exceptions=True), 20)
    subject.busy.clear()
    with suppress(Exception):
        await give_back(subject)
    await subject.engine.dispose()


async def free(file: str) -> None:
    """Fail if the turn to write or a lock of the file is still held."""
    writers = shared(Queue[Any], files.MEMORY, os.path.realpath(file))  # noqa: ASYNC240
    other = sqlite3.connect(file, timeout=0, isolation_level=None)
    end = time.monotonic() + 20
    while True:
        try:
            assert writers.writer is None, f"{writers.writer} has the turn"
            other.execute("BEGIN EXCLUSIVE")
            other.execute("ROLLBACK")
        except (AssertionError, sqlite3.OperationalError):
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.005)
        else:
            other.close()
            return


def log(connection: Any, record: Any) -> None:
    """Have a write-ahead log."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def options_of(driver: str) -> dict[str, Any]:
    """Return the options by which the library opens files."""
    if driver == "inline":
        return {}
    from dbscope.backends.sqlite.aiosqlite import connect

    return {"connect_args": {"async_creator_fn": connect}}


def ways_in(state: str) -> list[Callable[[Subject], Any]]:
    """Return the ways to end in this state; to give it back is to wait for its statement."""
    return [way for way in WAYS if state != "running" or way is not give_back]


def chosen(state: str, *, everything: bool) -> list[tuple[Any, Any]]:
    """Return the pairs of ways: all, or each way once as the first and once as the second.

    Those that are chosen are others in each state.
    """
    ways = ways_in(state)
    turned = [each.__name__ for each in STATES].index(state)
    shifts = range(len(ways)) if everything else (turned,)
    return [(way, ways[(i + by) % len(ways)]) for by in shifts for i, way in enumerate(ways)]


def main(driver: str, state: str, file: str, everything: str = "") -> None:
    """Go through the pairs."""
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS item (id int)")
    connection.close()
    begin = next(each for each in STATES if each.__name__ == state)
    for first, second in chosen(state, everything=bool(everything)):
        for at_once in (False, True):
            how = "at once" if at_once else "in turn"
            say(f"{driver} {state} {first.__name__} {second.__name__} {how}")
            asyncio.run(end(driver, begin, (first, second), file, at_once=at_once))
    say("held")


def say(what: str) -> None:
    """Say it before anything else can happen."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
