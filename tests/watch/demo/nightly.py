"""A job: it reads everything, and goes."""

import asyncio
import sys

from models import Order, Stock, db
from sqlalchemy import select

db.watch.start()


@db.scope
async def count_again() -> None:
    for sku in ("cup", "pot", "jug"):
        await db.get_by_pk(Stock, sku)
    await db.scalars(select(Order))


async def main() -> None:
    async with db.lifespan():
        await count_again()
        await asyncio.sleep(float(sys.argv[1]))


asyncio.run(main())
