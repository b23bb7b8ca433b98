"""Twelve ways to read, of which eight ask once for each row, and one that asks the same again.

The mark `# <case>: query` is where the parents are read, `# <case>: loop` where it happens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, text
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.observers.model import AUTHORS, Author, Shown

Story = Callable[[AsyncSession, Select[Any]], Awaitable[Any]]
ALL = range(1, AUTHORS + 1)


@dataclass(frozen=True)
class Load:
    """One of them."""

    story: Story
    query: str = "select(Author)"
    many: bool = True  # it is an N+1
    at_once: int = 2  # statements when it is cured
    in_a_job: bool = False


async def collection(session: AsyncSession, query: Select[Any]) -> None:
    rows = (await session.scalars(query)).unique().all()  # a collection: query
    for row in rows:
        await row.awaitable_attrs.books  # a collection: loop


async def scalar(session: AsyncSession, query: Select[Any]) -> None:
    rows = (await session.scalars(query)).unique().all()  # a scalar: query
    await session.run_sync(lambda _: [row.author for row in rows])  # a scalar: loop


async def nested(session: AsyncSession, query: Select[Any]) -> None:
    rows = (await session.scalars(query)).unique().all()  # nested: query

    def touch(_: Any) -> list[Any]:
        return [list(book.copies) for row in rows for book in row.books]  # nested: loop

    await session.run_sync(touch)


async def deferred(session: AsyncSession, query: Select[Any]) -> None:
    rows = (await session.scalars(query)).unique().all()  # a deferred column: query
    await session.run_sync(lambda _: [row.life for row in rows])  # a deferred column: loop


async def refreshed(session: AsyncSession, query: Select[Any]) -> None:
    rows = (await session.scalars(query)).unique().all()  # refresh: query
    for row in rows:
        await session.refresh(row)  # refresh: loop


async def got(session: AsyncSession, _: Select[Any]) -> None:
    for number in ALL:
        await session.get(Author, number)  # get: loop


async def serialized(session: AsyncSession, query: Select[Any]) -> None:
    rows = (await session.scalars(query)).unique().all()  # a serializer: query

    def show(_: Any) -> list[Shown]:
        return [Shown.model_validate(row) for row in rows]  # a serializer: loop

    await session.run_sync(show)


async def in_a_job(session: AsyncSession, query: Select[Any]) -> None:
    rows = (await session.scalars(query)).unique().all()  # in a job: query
    for row in rows:
        await row.awaitable_attrs.books  # in a job: loop


async def batches(session: AsyncSession, query: Select[Any]) -> None:
    for number in ALL:
        await session.scalars(query.where(Author.id.in_([number, number + 1])))


async def alike(session: AsyncSession, _: Select[Any]) -> None:
    for number in ALL:
        await session.scalar(text("SELECT :i + 0"), {"i": number})


async def one_parent(session: AsyncSession, _: Select[Any]) -> None:
    author = await session.get_one(Author, 1)
    await author.awaitable_attrs.books


async def at_once(session: AsyncSession, query: Select[Any]) -> None:
    rows = (await session.scalars(query)).all()
    for row in rows:
        await row.awaitable_attrs.books


async def again(session: AsyncSession, query: Select[Any]) -> None:
    for _ in range(4):
        await session.scalars(query.where(Author.id == 1))


LOADS = {
    "a collection": Load(collection),
    "a scalar": Load(scalar, "select(Book)"),
    "nested": Load(nested, at_once=3),
    "a deferred column": Load(deferred),
    "refresh": Load(refreshed),
    "get": Load(got),
    "a serializer": Load(serialized),
    "in a job": Load(in_a_job, in_a_job=True),
    "batches": Load(batches, many=False),
    "statements that look alike": Load(alike, many=False),
    "one parent": Load(one_parent, many=False),
    "loaded at once": Load(
        at_once, "select(Author).options(selectinload(Author.books))", many=False
    ),
    "the same again": Load(again, many=False),
}
