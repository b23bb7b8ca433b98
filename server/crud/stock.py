"""What comes into the stock, and what is taken from it."""

from collections.abc import Iterable

from sqlalchemy import select

from dbscope.crud import AsyncCRUD
from server.db.database import db
from server.live import board
from server.models import Stock


class Stocks(AsyncCRUD[Stock]):
    async def locked(self, item_ids: Iterable[int]) -> dict[int, Stock]:
        """Return the stock of these items, which nobody else can change until the end.

        Always locked in the same order, so that two orders never wait for each other.
        """
        rows = await db.session.scalars(
            select(Stock)
            .where(Stock.item_id.in_(item_ids))
            .order_by(Stock.item_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        db.on_commit(board.ring, robust=True)
        return {stock.item_id: stock for stock in rows}

    async def add(self, item_id: int, quantity: int) -> Stock | None:
        """Store goods that came in."""
        stock = (await self.locked([item_id])).get(item_id)
        if stock is not None:
            stock.bought += quantity
            stock.remaining += quantity
        return stock


stocks = Stocks(db)
