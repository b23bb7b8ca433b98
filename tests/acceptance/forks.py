"""A process that forks while its pool has connections: `python -m tests.acceptance.forks URL N`.

The parent uses the engine, then forks; children and parent all query at once. Each query asks for
a number of its own, so that an answer meant for another process is seen.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
import warnings

from sqlalchemy import Integer, bindparam, select

from dbscope import AsyncDatabase, Database

CHILDREN = 4
NUMBER = select(bindparam("number", type_=Integer))
PATIENCE = 60  # seconds


def ask(db: Database, first: int, count: int) -> int:
    """Run queries, and return how many answers were wrong."""
    wrong = 0
    for number in range(first, first + count):
        with db.scope():
            wrong += db.scalar(NUMBER, {"number": number}) != number
    return wrong


async def ask_async(db: AsyncDatabase, first: int, count: int) -> int:
    """Run queries, two at a time, and return how many answers were wrong."""

    async def one(number: int) -> bool:
        async with db.scope():
            return await db.scalar(NUMBER, {"number": number}) != number

    wrong = 0
    for number in range(first, first + count, 2):
        wrong += sum(await asyncio.gather(one(number), one(number + 1)))
    return wrong


def in_children(child: object) -> list[int]:
    """Fork; each child runs the function with its number, and exits with what that returns."""
    children = []
    for number in range(1, CHILDREN + 1):
        with warnings.catch_warnings():
            # Python 3.12 warns of forks beside threads, which is what this is about.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            signal.alarm(PATIENCE)
            status = 255
            try:
                status = child(1_000_000 * number)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(pid)
    return children


def statuses(children: list[int]) -> list[int]:
    """Wait for the children, and return what they exited with; a killed one is negative."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def sync_main(url: str, count: int) -> list[int]:
    """Do it with `Database`."""
    db = Database(url)
    wrong = ask(db, 1, 10)
    children = in_children(lambda first: ask(db, first, count))
    wrong += ask(db, 1, count)
    told = statuses(children)
    wrong += ask(db, 1, count)
    db.dispose()
    return [wrong, *told]


async def async_main(url: str, count: int) -> list[int]:
    """Do it with `AsyncDatabase`, as a server that forks after it has started."""
    db = AsyncDatabase(url)
    wrong = await ask_async(db, 1, 10)

    def child(first: int) -> int:
        return asyncio.run(ask_async(db, first, count))

    children = in_children(child)
    wrong += await ask_async(db, 1, count)
    told = await asyncio.to_thread(statuses, children)
    wrong += await ask_async(db, 1, count)
    await db.dispose()
    return [wrong, *told]


if __name__ == "__main__":
    program, kind, where, wanted = sys.argv
    if kind == "sync":
        result = sync_main(where, int(wanted))
    else:
        result = asyncio.run(async_main(where, int(wanted)))
    sys.stdout.write(" ".join(map(str, result)))
