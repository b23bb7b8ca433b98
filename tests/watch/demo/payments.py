"""The card company: now and then it says no."""

import asyncio

from fastapi import HTTPException


class Declined(Exception):
    pass


async def charge(card: str) -> None:
    await asyncio.sleep(0.012)
    if card == "expired":
        raise HTTPException(402, "card expired")
