"""How often a login may be tried: argon2 is slow for those who guess, and for us.

Counted in the memory of each worker. Behind a proxy, uvicorn takes the client's address from it
(`--proxy-headers`, `FORWARDED_ALLOW_IPS`).
"""

import math
import time

from fastapi import HTTPException, Request
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from server.config import settings

attempts = parse(settings.login_attempts)
limiter = MovingWindowRateLimiter(MemoryStorage())


async def count_attempt(request: Request, email: str) -> None:
    """Count an attempt to log in.

    Raises
    ------
    HTTPException
        429: there were too many from this address for this account; `Retry-After` says when.
    """
    address = request.client.host if request.client else ""
    if not await limiter.hit(attempts, address, email):
        window = await limiter.get_window_stats(attempts, address, email)
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        raise HTTPException(
            429, "Too many attempts to log in.", headers={"Retry-After": str(seconds)}
        )
