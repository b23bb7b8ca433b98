"""What the office wants: it takes its time."""

import asyncio

from fastapi import APIRouter
from models import Line, Order, Stock, db
from sqlalchemy import func, select, update

router = APIRouter()


@router.get("/reports/daily")
async def daily(seconds: float = 1.5) -> int:
    number = await db.scalar(select(func.count()).select_from(Order))
    await rates_of_the_bank(seconds)
    await db.scalar(select(func.count()).select_from(Line))
    return number


async def rates_of_the_bank(seconds: float) -> None:
    await asyncio.sleep(seconds)


@router.post("/stock/{sku}")
async def count_stock(sku: str, left: int, seconds: float = 0.0) -> None:
    await db.execute(update(Stock).where(Stock.sku == sku).values(left=left))
    await asyncio.sleep(seconds)
