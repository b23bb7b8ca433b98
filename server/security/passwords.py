"""Passwords, by argon2id with the parameters of RFC 9106.

In threads, because one takes some 50 ms of work on purpose, and 64 MiB: few at a time.
"""

from functools import cache

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

hasher = PasswordHasher()
AT_ONCE = 4


@cache
def limiter() -> CapacityLimiter:
    """Return what lets a few of them pass at a time."""
    return CapacityLimiter(AT_ONCE)


async def hashed(password: str) -> str:
    """Return what is stored of a password."""
    return await run_sync(hasher.hash, password, limiter=limiter())


async def matches(password: str, stored: str | None) -> bool:
    """Tell whether it is the password; without a stored one it takes as long, and is not."""
    return await run_sync(verify, password, stored, limiter=limiter())


def verify(password: str, stored: str | None) -> bool:
    """Tell whether it is the password."""
    try:
        hasher.verify(stored or of_nobody(), password)
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


@cache
def of_nobody() -> str:
    """Return the hash that the passwords of unknown users are compared with."""
    return hasher.hash("nobody has this password")
