"""A process that forks: `python -m tests.acceptance.forks PROGRAM URL N`; it prints what happened.

`sync` and `async`: the parent uses the engine, then forks; children and parent all query at once.
Each query asks for a number of its own, so that an answer meant for another process is seen.
`inside`: it forks in the middle of its transaction. `beside`: another of its tasks is in one.
`given`: it was given an engine that is in use. `writing sync`, `writing async`: it closes its
connections while its child writes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, bindparam, create_engine, select, text

from dbscope import AsyncDatabase, Database
from dbscope.errors import ConfigurationError, ScopeClosed

if TYPE_CHECKING:
    from collections.abc import Callable

CHILDREN = 4
NUMBER = select(bindparam("number", type_=Integer))
PATIENCE = 60  # seconds
CREATE = text("CREATE TABLE fork (n INTEGER NOT NULL)")
INSERT = text("INSERT INTO fork VALUES (:n)")
ROWS = text("SELECT n FROM fork ORDER BY n")


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


def fork() -> int:
    """Fork; what the child has of the parent's is left to the garbage collector at once."""
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads, which is what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        signal.alarm(PATIENCE)
        gc.collect()
    return pid


def in_child(child: Callable[[], int]) -> int:
    """Fork; the child runs the function, and exits with what that returns."""
    pid = fork()
    if pid == 0:
        status = 255
        try:
            status = child()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            sys.stdout.flush()
            os._exit(status)
    return pid


def in_children(child: Callable[[int], int]) -> list[int]:
    """Fork some times; each child has a number."""
    return [
        in_child(lambda number=number: child(1_000_000 * number))
        for number in range(1, CHILDREN + 1)
    ]


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


def inside(url: str, leave: int) -> list[object]:
    """Fork in a block of a transaction; the child leaves it as the parent does, or by an exit."""
    db = Database(url)
    with db.scope():
        db.execute(CREATE)
    ran: list[int] = []
    with db.scope():
        db.on_commit(lambda: ran.append(os.getpid()))
        db.on_rollback(lambda: ran.append(os.getpid()))
        db.execute(INSERT, {"n": 1})
        with db.atomic():
            db.execute(INSERT, {"n": 2})
            pid = fork()
            if pid == 0:
                refused(lambda: db.execute(INSERT, {"n": 3}), ScopeClosed)
                if not leave:
                    sys.exit(0)
            else:
                os.waitpid(pid, 0)
                db.execute(INSERT, {"n": 4})
    if pid == 0:
        sys.stdout.write(f"{len(ran)} hooks in the child, ")
        own_scope(db)
        sys.exit(0)
    with db.scope():
        rows = db.scalars(ROWS).all()
    db.dispose()
    return [len(ran), *rows]


def refused(use: Callable[[], object], error: type[Exception]) -> None:
    """Call what must raise this error."""
    try:
        use()
    except error:
        return
    raise AssertionError(f"no {error}")


def own_scope(db: Database) -> None:
    """Use the database in the child; SQLite's file was open, so it is refused."""
    with db.scope():
        if db.engine.dialect.name == "sqlite":
            refused(lambda: db.execute(INSERT, {"n": 5}), ConfigurationError)
        else:
            db.execute(INSERT, {"n": 5})
    db.dispose()


def writing(url: str, count: int) -> list[int]:
    """Fork with an idle connection; close it, and open the file anew, while the child writes."""
    db = Database(url)
    with db.scope():
        db.execute(CREATE)
    begun, go_on = os.pipe()

    def write(first: int, last: int) -> None:
        for number in range(first, last):
            with db.scope():
                db.execute(INSERT, {"n": number})

    def child() -> int:
        write(0, count // 2)
        os.write(go_on, b"x")
        write(count // 2, count)
        return 0

    pid = in_child(child)
    os.read(begun, 1)
    db.dispose()
    write(count, count + 1)
    db.dispose()
    told = statuses([pid])
    with db.scope():
        rows = db.scalars(ROWS).all()
    db.dispose()
    return [*told, len(rows)]


async def writing_async(url: str, count: int) -> list[int]:
    """Do it with `AsyncDatabase`."""
    db = AsyncDatabase(url)
    async with db.scope():
        await db.execute(CREATE)
    begun, go_on = os.pipe()

    async def write(first: int, last: int) -> None:
        for number in range(first, last):
            async with db.scope():
                await db.execute(INSERT, {"n": number})

    async def child() -> int:
        await write(0, count // 2)
        os.write(go_on, b"x")
        await write(count // 2, count)
        return 0

    pid = in_child(lambda: asyncio.run(child()))
    await asyncio.to_thread(os.read, begun, 1)
    await db.dispose()
    await write(count, count + 1)
    await db.dispose()
    told = await asyncio.to_thread(statuses, [pid])
    async with db.scope():
        rows = (await db.scalars(ROWS)).all()
    await db.dispose()
    return [*told, len(rows)]


async def beside(url: str, _: int) -> list[int]:
    """Fork while another task is in a transaction; the child cancels that task by its end."""
    db = AsyncDatabase(url)
    async with db.scope():
        await db.execute(CREATE)
    has_begun, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with db.scope():
            await db.execute(INSERT, {"n": 1})
            has_begun.set()
            await go_on.wait()
            await db.execute(INSERT, {"n": 2})

    task = asyncio.create_task(work())
    await has_begun.wait()
    pid = in_child(lambda: asyncio.run(cancelled(task)))
    told = statuses([pid])
    go_on.set()
    await task
    async with db.scope():
        rows = (await db.scalars(ROWS)).all()
    await db.dispose()
    return [*told, *rows]


async def cancelled(task: asyncio.Task[None]) -> int:
    """Cancel a task of the parent's loop, as `asyncio.run` does at its end; it never comes back."""
    coroutine: Any = task.get_coro()
    try:
        while True:
            coroutine.throw(asyncio.CancelledError)
    except asyncio.CancelledError:
        return 0


def given(url: str, _: int) -> list[bool]:
    """Fork after the engine was used, and before the database was that was given it."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(CREATE)
    db = Database(engine=engine)
    look = text("SELECT CONNECTION_ID()" if "mysql" in url else "SELECT pg_backend_pid()")

    def child() -> int:
        with db.scope():
            os.write(tell, f"{db.scalar(look)}".encode())
        return 0

    ask_, tell = os.pipe()
    ended = statuses([in_child(child)])
    with db.scope():
        mine = db.scalar(look)
    db.dispose()
    return [ended == [0], os.read(ask_, 100).decode() != f"{mine}"]


PROGRAMS: dict[str, Callable[[str, int], Any]] = {
    "sync": sync_main,
    "async": async_main,
    "inside": inside,
    "writing sync": writing,
    "writing async": writing_async,
    "beside": beside,
    "given": given,
}

if __name__ == "__main__":
    _, program, where, wanted = sys.argv
    result = PROGRAMS[program](where, int(wanted))
    if asyncio.iscoroutine(result):
        result = asyncio.run(result)
    sys.stdout.write(" ".join(map(str, result)))
