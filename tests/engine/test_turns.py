"""A short statement of `sqlite+inline` lets others go first, if there are any."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dbscope import AsyncDatabase, ConcurrentUse

pytestmark = pytest.mark.anyio

ONE = text("SELECT 1")


@pytest.fixture
async def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncDatabase]:
    """A database in whose scope a statement was run already; no turn of the loop is too long."""
    monkeypatch.setattr("dbscope.sqlite_inline.fairness.SLICE", 60)
    db = AsyncDatabase(f"sqlite:///{tmp_path}/a.db")
    async with db.scope():
        await db.execute(ONE)
        await asyncio.sleep(0)
        yield db
    await db.dispose()


async def until_alone() -> None:
    """Wait until nobody else waits for a turn of the loop."""
    loop: Any = asyncio.get_running_loop()
    while loop._ready:  # noqa: ASYNC110  (there is no event for that)
        await asyncio.sleep(0)


async def test_alone_it_waits_for_nothing(db: AsyncDatabase) -> None:
    """Not for a turn of the event loop either: nobody is waiting for one."""
    await until_alone()
    for _ in range(3):
        with pytest.raises(StopIteration) as ended:
            db.scalar(ONE).send(None)
        assert ended.value.value == 1


async def test_whoever_is_ready_goes_first(db: AsyncDatabase) -> None:
    """However short the statement is, and for each one again."""
    others: list[int] = []
    for number in range(3):
        asyncio.get_running_loop().call_soon(others.append, number)
        await db.execute(ONE)
        assert others[-1] == number


async def test_two_tasks_with_one_session_meet(db: AsyncDatabase) -> None:
    """Else they would get along as long as statements are short, and fail in production."""
    results = await asyncio.gather(*(db.scalar(ONE) for _ in range(2)), return_exceptions=True)
    assert [type(result) for result in results] == [int, ConcurrentUse]


async def test_after_a_long_turn_the_next_one_begins(
    db: AsyncDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task of many statements leaves the loop to those who wait for something else."""
    await until_alone()
    monkeypatch.setattr("dbscope.sqlite_inline.fairness.SLICE", -1)
    await db.execute(ONE)  # the first one of this turn
    statement = db.execute(ONE)
    assert statement.send(None) is None
    with pytest.raises(StopIteration):
        statement.send(None)
