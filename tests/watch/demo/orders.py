"""Orders: most of them go well."""

import asyncio

from fastapi import APIRouter, HTTPException
from models import Line, Order, Stock, db
from payments import Declined, charge
from sqlalchemy import select, update

router = APIRouter()


@router.post("/orders", status_code=201)
async def place_order(customer: str, sku: str = "cup", card: str = "good") -> int:
    order = Order(customer=customer, lines=[Line(sku=sku)])
    db.session.add(order)
    await db.session.flush()
    await take_from_stock(sku)
    await charge(card)
    db.on_commit(send_mail)
    return order.id


async def take_from_stock(sku: str) -> None:
    async with db.atomic():
        taken = update(Stock).where(Stock.sku == sku, Stock.left > 0).values(left=Stock.left - 1)
        if (await db.execute(taken)).rowcount == 0 and sku == "jug":
            raise HTTPException(409, "sold out")


async def send_mail() -> None:
    await asyncio.sleep(0.004)


@router.post("/basket/checkout")
async def checkout(customer: str) -> dict[str, bool]:
    db.session.add(Order(customer=customer, lines=[Line(sku="pot")]))
    await db.session.flush()
    raise Declined("card declined")


@router.post("/orders/express")
async def express(customer: str) -> None:
    db.session.add(Order(customer=customer, lines=[Line(sku="can")]))
    await db.session.commit()
    raise ConnectionError("the mail server is away")


@router.get("/orders")
async def list_orders() -> list[tuple[int, int]]:
    found = await db.scalars(select(Order).order_by(Order.id).limit(20))
    return [(order.id, await lines_of(order)) for order in found]


async def lines_of(order: Order) -> int:
    return len(await db.session.run_sync(lambda _: order.lines))


@router.get("/orders/{number}")
async def show_order(number: int) -> str:
    order = await db.session.get(Order, number)
    if order is None:
        raise HTTPException(404, "no such order")
    return order.customer
