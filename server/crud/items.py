"""What can be done with items. Nothing here commits: the request is the transaction."""

from collections.abc import Sequence

from sqlalchemy import func, select

from server.db.database import db
from server.models.items import Item
from server.schemas.items import ItemCreate, ItemUpdate


async def page(limit: int, offset: int) -> Sequence[Item]:
    """Return some of the items, in the order of their ids."""
    query = select(Item).order_by(Item.id).limit(limit).offset(offset)
    return (await db.session.scalars(query)).all()


async def count() -> int:
    """Return how many items there are."""
    return (await db.session.scalars(select(func.count(Item.id)))).one()


async def get(item_id: int) -> Item | None:
    """Return an item, if it is there."""
    return await db.session.get(Item, item_id)


async def create(data: ItemCreate) -> Item:
    """Store a new item."""
    item = Item(**data.model_dump())
    db.session.add(item)
    await db.session.flush()  # INSERT now, for its id
    return item


def update(item: Item, data: ItemUpdate) -> None:
    """Change the fields that were sent."""
    for name, value in data.model_dump(exclude_unset=True).items():
        setattr(item, name, value)


async def delete(item: Item) -> None:
    """Delete an item."""
    await db.session.delete(item)
