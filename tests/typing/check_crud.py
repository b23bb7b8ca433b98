"""What the type checkers say about `dbscope.crud`. Checked, never run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, assert_type

from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, selectinload

from dbscope import AsyncDatabase, Database
from dbscope.crud import CRUD, AsyncCRUD, Page


class Base(DeclarativeBase):
    """The tables."""


class Item(Base):
    """A mapped class."""

    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class ItemCreate(BaseModel):
    """What makes one."""

    name: str


class ItemUpdate(BaseModel):
    """What changes one."""

    name: str | None = None


class Items(CRUD[Item, ItemCreate, ItemUpdate]):
    """In plain code."""

    sortable = ("name", "price")


class AsyncItems(AsyncCRUD[Item, ItemCreate, ItemUpdate]):
    """In async code, with a method of its own."""

    sortable = ("name",)
    max_limit = 50

    async def create(self, data: ItemCreate, /, **more: Any) -> Item:
        """Do more than the base does."""
        item = await super().create(data, **more)
        assert_type(item, Item)
        return item


class Loose(CRUD[Item]):
    """Without types of its own for what is given."""


Model = TypeVar("Model", bound=Base)


class Own(CRUD[Model]):
    """A base class of the application."""


class OwnItems(Own[Item]):
    """And a class on it."""


plain, db = Database("sqlite://"), AsyncDatabase("sqlite://")


def work() -> None:
    """Use every method."""
    items = Items(plain)
    assert_type(items.get(1), Item | None)
    item = items.get_or_404((1, 2), with_for_update=True)
    assert_type(item, Item)
    page = items.list(
        Item.id > 1, Item.name == "a", order_by=Item.name.desc(), options=[selectinload(Item.name)]
    )
    assert_type(page, Page[Item])
    assert_type(page.items, list[Item])
    assert_type(page.next, str | None)
    assert_type(page.total, int | None)
    assert_type(items.list(order_by=(Item.name, Item.id.desc(), "-name")), Page[Item])
    assert_type(items.list(order_by="-name", after=page.next, total=True), Page[Item])
    assert_type(items.create(ItemCreate(name="a"), owner_id=1), Item)
    assert_type(items.update(item, ItemUpdate()), Item)
    assert_type(items.upsert(ItemCreate(name="a"), on=["name"]), Item)
    assert_type(items.exists(Item.id == 1), bool)
    assert_type(items.count(), int)
    items.delete(item)
    items.create({"name": "a"})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    items.update(item, ItemCreate(name="a"))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Items(db)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def work_with_mappings() -> None:
    """Give what has no model of its own."""
    data: Mapping[str, object] = {"name": "a"}
    assert_type(Loose(plain).create(data), Item)
    assert_type(OwnItems(plain).upsert({"name": "a"}, on="name"), Item)


async def work_async() -> None:
    """Await the same."""
    items = AsyncItems(db)
    assert_type(await items.get(1), Item | None)
    item = await items.get_or_404(1)
    assert_type(item, Item)
    assert_type(await items.list(Item.id > 1, order_by=Item.name), Page[Item])
    assert_type(await items.create(ItemCreate(name="a")), Item)
    assert_type(await items.update(item, ItemUpdate()), Item)
    assert_type(await items.upsert(ItemCreate(name="a"), on=("name",)), Item)
    assert_type(await items.exists(), bool)
    assert_type(await items.count(Item.id == 1), int)
    await items.delete(item)
