"""What happens: the endpoints of the causes, and of who holds what they wait for.

A line that is to be named has a mark, `# <cause>`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from fastapi import HTTPException
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from starlette.responses import JSONResponse, StreamingResponse

from benchmarks.observers.model import Counter, Databases, Item, Part

Story = Callable[[Databases], Awaitable[Any]]
INSERT = text("INSERT INTO item (name) VALUES ('new')")
CHANGE = text("UPDATE item SET name = name || 'x' WHERE id = 1")
SLEEP = text("SELECT pg_sleep(0.05)")
HELD = 0.4  # seconds
STORIES: dict[str, Story] = {}
taken: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


class Trouble(Exception):
    """What goes wrong."""


def happens(name: str) -> Callable[[Story], Story]:
    """Be the endpoint of this name."""

    def told(story: Story) -> Story:
        STORIES[name] = story
        return story

    return told


async def keep(name: str) -> None:
    """Say that it is taken, and hold it for a while."""
    taken[name].set()
    await asyncio.sleep(HELD)


@happens("error raised")
async def raised(dbs: Databases) -> None:
    await dbs.main.execute(INSERT)
    raise HTTPException(409, "taken")  # error raised


@happens("error returned")
async def returned(dbs: Databases) -> Any:
    await dbs.main.execute(INSERT)
    return JSONResponse({}, 409)


@happens("handled to 200")
async def trouble(dbs: Databases) -> None:
    await dbs.main.execute(INSERT)
    raise Trouble  # handled to 200


@happens("unhandled")
async def unhandled(dbs: Databases) -> None:
    await dbs.main.execute(INSERT)
    raise Trouble  # unhandled


@happens("swallowed")
async def swallowed(dbs: Databases) -> None:
    await dbs.main.execute(INSERT)
    with suppress(DBAPIError):
        await dbs.main.execute(text("SELECT nonsense FROM nowhere"))  # swallowed


@happens("refused by COMMIT")
async def at_commit(dbs: Databases) -> None:
    dbs.main.session.add(Part(item_id=999))
    await dbs.main.session.flush()  # refused by COMMIT


@happens("flush at the end")
async def at_the_end(dbs: Databases) -> None:
    dbs.main.session.add_all([Item(name="twice"), Item(name="twice")])


@happens("client gone")
async def gone(dbs: Databases) -> None:
    await dbs.main.execute(INSERT)
    await asyncio.sleep(60)  # client gone


@happens("never sent")
async def never_sent(dbs: Databases) -> None:
    dbs.main.session.add(Item(name="new"))
    raise Trouble  # never sent


@happens("veto")
async def accepted(dbs: Databases) -> None:
    await dbs.main.execute(INSERT)


@happens("doom")
async def doom(dbs: Databases) -> None:
    await dbs.main.execute(INSERT)
    dbs.main.doom()  # doom


@happens("set_rollback")
async def set_rollback(dbs: Databases) -> None:
    await dbs.main.execute(INSERT)
    dbs.main.set_rollback(True)  # set_rollback


@happens("deadline")
async def deadline(dbs: Databases) -> None:
    async with dbs.main.atomic(timeout=0.2):  # deadline
        await dbs.main.execute(INSERT)
        await asyncio.sleep(0.25)


@happens("broken savepoint")
async def broken(dbs: Databases) -> None:
    await dbs.main.execute(INSERT)
    async with dbs.main.atomic():
        with suppress(DBAPIError):
            await dbs.main.execute(text("SELECT nonsense FROM nowhere"))  # broken savepoint


@happens("savepoint lost")
async def lost(dbs: Databases) -> None:
    with suppress(Trouble):
        await dbs.main.execute(CHANGE)
        async with dbs.main.atomic():
            await dbs.main.execute(INSERT)
            raise Trouble  # savepoint lost


@happens("stored by hand, then an error")
async def by_hand(dbs: Databases) -> None:
    await dbs.main.execute(CHANGE)
    await dbs.main.session.commit()  # stored by hand, then an error
    raise HTTPException(409)


@happens("idle")
async def idle(dbs: Databases) -> None:
    await dbs.main.execute(SLEEP)
    await asyncio.sleep(0.6)  # idle
    await dbs.main.execute(SLEEP)


@happens("stream")
async def stream(dbs: Databases) -> StreamingResponse:
    async def rows() -> AsyncIterator[bytes]:
        found = await dbs.main.session.stream(text("SELECT generate_series(1, 3)"))  # stream
        async for _ in found:
            await asyncio.sleep(0.3)
            yield b"row"

    return StreamingResponse(rows())


@happens("pool held")
async def pool_held(dbs: Databases) -> None:
    await dbs.small.execute(text("SELECT 1"))  # pool
    await keep("pool")


@happens("pool")
async def pool_wanted(dbs: Databases) -> None:
    await dbs.small.execute(text("SELECT 2"))


@happens("pool in vain held")
async def hasty_held(dbs: Databases) -> None:
    await dbs.hasty.execute(text("SELECT 1"))
    await keep("pool in vain")


@happens("pool in vain")
async def hasty_wanted(dbs: Databases) -> None:
    with suppress(ZeroDivisionError):
        await dbs.hasty.execute(text("SELECT 2"))  # pool in vain


@happens("second connection held")
async def pair_held(dbs: Databases) -> None:
    await dbs.pair.execute(text("SELECT 1"))
    await keep("second connection")


@happens("second connection")
async def pair_wanted(dbs: Databases) -> None:
    await dbs.pair.execute(text("SELECT 2"))
    async with dbs.pair.scope():
        await dbs.pair.execute(text("SELECT 3"))


@happens("SQLite's writer held")
async def writer_held(dbs: Databases) -> None:
    await dbs.lite.execute(CHANGE)  # SQLite's writer
    await keep("SQLite's writer")


@happens("SQLite's writer")
async def writer_wanted(dbs: Databases) -> None:
    await dbs.lite.execute(CHANGE)


@happens("row held")
async def row_held(dbs: Databases) -> None:
    await dbs.main.execute(CHANGE)  # row
    await keep("row")


@happens("row")
@happens("row of another program")
async def row_wanted(dbs: Databases) -> None:
    await dbs.main.execute(CHANGE)


@happens("lock by name held")
async def lock_held(dbs: Databases) -> None:
    async with dbs.main.advisory_lock("nightly"):
        await dbs.main.execute(text("SELECT 1"))  # lock by name
        await keep("lock by name")


@happens("lock by name")
async def lock_wanted(dbs: Databases) -> None:
    await dbs.main.execute(text("SELECT 2"))
    async with dbs.main.advisory_lock("nightly"):
        pass


def stale(times: int) -> Story:
    """Return work that meets another transaction so often."""
    left = [None] * times

    async def work(dbs: Databases) -> None:
        counter = await dbs.main.session.get_one(Counter, 1)
        if left:
            left.pop()
            await dbs.main.execute(text("UPDATE counter SET version = version + 1"))
        counter.value += 1
        await dbs.main.session.flush()  # retry

    return work


happens("retry that won")(stale(1))
happens("retry that lost")(stale(2))


@happens("stored in part")
async def partly(dbs: Databases) -> None:
    await dbs.main.execute(CHANGE)
    dbs.lite.session.add(Part(item_id=999))
    await dbs.lite.session.flush()  # stored in part


@happens("answer lost")
async def unknown(dbs: Databases) -> None:
    await dbs.main.execute(CHANGE)


@happens("answer lost, verified")
async def verified(dbs: Databases) -> None:
    await dbs.asking.execute(CHANGE)
