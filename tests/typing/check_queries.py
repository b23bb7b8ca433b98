"""What the type checkers say about queries, locks and decorators. Checked, never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, assert_type

from fastapi import Depends, FastAPI
from sqlalchemy import ScalarResult, func, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dbscope import AsyncDatabase, Database


class Base(DeclarativeBase):
    """The tables."""


class Item(Base):
    """A mapped class."""

    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


db, plain = AsyncDatabase("sqlite://"), Database("sqlite://")
app = FastAPI()


async def query() -> None:
    """Get what the session would give."""
    assert_type(await db.scalars(select(Item)), ScalarResult[Item])
    assert_type((await db.scalars(select(Item.name))).all(), Sequence[str])
    assert_type((await db.execute(select(Item.id, Item.name))).tuples().one(), tuple[int, str])
    assert_type((await db.execute(select(Item))).scalars().first(), Item | None)
    assert_type(await db.get_by_pk(Item, 1, populate_existing=True), Item | None)
    count: int | None = await db.scalar(select(func.count()), execution_options={"a": 1})
    await db.execute(text("SELECT :a"), {"a": count})
    await db.execute(update(Item).values(name="a"), [{"id": 1}])
    await db.scalars("SELECT 1")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    await db.scalar(select(Item), strange=1)


def query_plainly() -> None:
    """Get the same in plain code."""
    assert_type(plain.scalars(select(Item)), ScalarResult[Item])
    assert_type(plain.scalars(select(Item.name)).all(), Sequence[str])
    assert_type(plain.execute(select(Item.id, Item.name)).tuples().one(), tuple[int, str])
    assert_type(plain.get_by_pk(Item, 1), Item | None)
    count: int | None = plain.scalar(select(func.count()))
    plain.execute(text("SELECT :a"), {"a": count})
    plain.scalars("SELECT 1")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


async def lock(item: Item, *, skip: bool) -> None:
    """Have the object, and None only where it may be left out."""
    assert_type(await db.lock(item), Item)
    assert_type(await db.lock(item, nowait=True, skip_locked=False), Item)
    assert_type(await db.lock(item, skip_locked=True), Item | None)
    assert_type(await db.lock(item, skip_locked=skip), Item | None)
    async with db.with_lock(item) as locked, db.with_lock(item, skip_locked=True) as perhaps:
        assert_type(locked, Item)
        assert_type(perhaps, Item | None)
    assert_type(plain.lock(item), Item)
    assert_type(plain.lock(item, skip_locked=True), Item | None)
    with plain.with_lock(item) as locked, plain.with_lock(item, skip_locked=True) as perhaps:
        assert_type(locked, Item)
        assert_type(perhaps, Item | None)


@db.atomic(retry=2, timeout=5)
async def in_block(amount: int, *, note: str = "") -> str:
    """Keep parameters and result; so do all below."""
    return f"{amount} {note}"


@db.transaction_required
async def required(amount: int) -> str:
    """Be called in a transaction."""
    return str(amount)


@db.transaction_required()
async def required_too(amount: int) -> str:
    """Be called in a transaction."""
    return str(amount)


@db.durable
async def durable(amount: int) -> str:
    """Be called outside of one."""
    return str(amount)


@db.scope(readonly=True)
async def in_scope(amount: int) -> str:
    """Have a scope of its own."""
    return str(amount)


@plain.atomic(retry=2)
def in_block_plainly(amount: int) -> str:
    """Have a block of its own."""
    return str(amount)


@plain.scope(atomic=False)
def in_scope_plainly(amount: int) -> str:
    """Have a scope of its own."""
    return str(amount)


@plain.transaction_required
def required_plainly(amount: int) -> str:
    """Be called in a transaction."""
    return str(amount)


@app.get("/")
@db.readonly
async def read(amount: int) -> str:
    """Be a route."""
    return str(amount)


@plain.readonly
@app.get("/plain", dependencies=[Depends(db.readonly)])
def read_plainly(amount: int) -> str:
    """Be one, too."""
    return str(amount)


Async = Callable[[int], Coroutine[Any, Any, str]]
decorated: list[Async] = [in_block, required, required_too, durable, in_scope, read]
plainly: list[Callable[[int], str]] = [
    in_block_plainly,
    in_scope_plainly,
    required_plainly,
    read_plainly,
]


async def call() -> None:
    """Call all of them, rightly and wrongly."""
    assert_type(await in_block(1, note="a"), str)
    assert_type(in_block_plainly(1), str)
    await in_block("1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await required()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    required_plainly("1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    read_plainly(amount="1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with db.transaction_required():
        pass
    with db.scope():  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportGeneralTypeIssues]
        pass
    async with plain.atomic():  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportGeneralTypeIssues]
        pass


AsyncDatabase("sqlite://", pool_size=5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Database("sqlite://", atomic_request=True)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
