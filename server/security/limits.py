"""How often something may be tried: argon2 is slow for those who guess, and for us.

Counted in the memory of each worker. Behind a proxy, uvicorn takes the client's address from it
(`--proxy-headers`, `FORWARDED_ALLOW_IPS`).
"""

import ipaddress
import math
import time

from fastapi import HTTPException, Request
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from server.config import settings

limiter = MovingWindowRateLimiter(MemoryStorage())
here_for_this = parse(settings.login_attempts)
from_here = parse(settings.login_attempts_from)
for_this = parse(settings.login_attempts_for)
registrations = parse(settings.registrations_from)
OF_ONE_CLIENT = 64  # bits of an IPv6 address: who has one has all of them that begin so


async def count_attempt(request: Request, email: str) -> None:
    """Count an attempt to log in.

    Raises
    ------
    HTTPException
        429: there were too many from this address, or for this account, or both.
    """
    address = address_of(request)
    await count(from_here, "login from", address)
    await count(here_for_this, "login from for", address, email)
    await count(for_this, "login for", email)


async def count_registration(request: Request) -> None:
    """Count a new user.

    Raises
    ------
    HTTPException
        429: there were too many from this address.
    """
    await count(registrations, "registration from", address_of(request))


async def count(limit: RateLimitItem, *what: str) -> None:
    """Count one, or answer 429; `Retry-After` says when to come back."""
    if not await limiter.hit(limit, *what):
        window = await limiter.get_window_stats(limit, *what)
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        raise HTTPException(429, "Too many attempts.", headers={"Retry-After": str(seconds)})


def address_of(request: Request) -> str:
    """Return what stands for one client: its address, or the network that is all its own."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a socket of this machine
        return host
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.ip_network((address, OF_ONE_CLIENT), strict=False))
    return str(address)
