"""What can be done with items. Nothing here commits: the request is the transaction."""

from dbscope.crud import AsyncCRUD
from server.db.database import db
from server.models import Item, Stock
from server.schemas.items import ItemCreate, ItemUpdate


class Items(AsyncCRUD[Item, ItemCreate, ItemUpdate]):
    sortable = ("id", "name", "price")

    async def create(self, data: ItemCreate, /, **more: object) -> Item:
        """Store a new item, of which there is nothing in stock yet."""
        item = await super().create(data, **more)
        db.session.add(Stock(item_id=item.id, bought=0, remaining=0))
        return item


items = Items(db)
