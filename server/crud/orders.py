"""Placing an order, and looking at it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy.orm import selectinload

from dbscope.crud import AsyncCRUD, Page
from server import events, mail
from server.crud.items import items
from server.crud.stock import stocks
from server.crud.users import users
from server.db.database import db
from server.models import Item, Order, OrderLine, User
from server.schemas.orders import OrderLineCreate

WITH_LINES = (selectinload(Order.lines),)


class CannotOrder(Exception):
    """There is not enough of an item, or not enough credit; nothing was changed."""


class Orders(AsyncCRUD[Order]):
    @db.atomic
    async def place(self, buyer: User, lines: Sequence[OrderLineCreate]) -> Order:
        """Take the goods from the stock and their price from the credit, and store the order.

        All of it or nothing. The confirmation is sent after COMMIT, so never for an order that is
        not there.

        Raises
        ------
        CannotOrder
            Something is missing: goods, credit, or the item itself; or a price is another one now.
        """
        wanted = {line.item_id: line.quantity for line in lines}
        await self._take_goods(wanted)
        ordered = await items.list(Item.id.in_(wanted), limit=len(wanted))
        check_prices(ordered.items, {line.item_id: line.price for line in lines})
        order = Order(user_id=buyer.id, created_at=datetime.now(UTC))
        order.lines = [
            OrderLine(item_id=item.id, name=item.name, price=gross(item), quantity=wanted[item.id])
            for item in ordered.items
        ]
        order.total = sum((line.price * line.quantity for line in order.lines), Decimal(0))
        await self._take_credit(buyer, order.total)
        db.session.add(order)
        await db.session.flush()
        await events.placed(order)
        db.on_commit(mail.confirmation(buyer, order), robust=True)
        return order

    async def _take_goods(self, wanted: dict[int, int]) -> None:
        held = await stocks.locked(wanted)
        for item_id, quantity in wanted.items():
            if item_id not in held:
                raise CannotOrder(f"There is no item {item_id}.")
            if held[item_id].remaining < quantity:
                raise CannotOrder(await self._too_few(item_id, held[item_id].remaining))
            held[item_id].remaining -= quantity

    async def _too_few(self, item_id: int, remaining: int) -> str:
        item = await items.get_or_404(item_id)
        return f"Only {remaining} {item.name} left." if remaining else f"No {item.name} left."

    async def _take_credit(self, buyer: User, total: Decimal) -> None:
        buyer = await users.locked(buyer.id)
        if buyer.credit < total:
            raise CannotOrder(f"That costs {total}, and the credit is {buyer.credit}.")
        buyer.credit -= total

    async def of(self, user: User, *, limit: int = 20, after: str | None = None) -> Page[Order]:
        """Return the orders of a user, newest first."""
        return await self.list(
            Order.user_id == user.id,
            order_by=Order.id.desc(),
            limit=limit,
            after=after,
            options=WITH_LINES,
        )

    async def one_of(self, user: User, order_id: int) -> Order | None:
        """Return an order, if it is this user's."""
        order = await self.get(order_id, options=WITH_LINES)
        return order if order is not None and order.user_id == user.id else None


def check_prices(ordered: Sequence[Item], shown: Mapping[int, Decimal | None]) -> None:
    """Raise CannotOrder if the buyer was shown another price than the one that would be paid."""
    for item in ordered:
        if shown[item.id] not in (None, gross(item)):
            raise CannotOrder(f"{item.name} costs {gross(item):,.2f} by now.")


def gross(item: Item) -> Decimal:
    """Return what a buyer pays for one."""
    return item.price + (item.tax or 0)


orders = Orders(db)
