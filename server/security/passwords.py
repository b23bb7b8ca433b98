"""Passwords, by argon2id with the parameters of RFC 9106.

In threads, because one takes some 50 ms of work on purpose, and 64 MiB: few at a time, and few
that wait. Who calls this holds no transaction: others would wait with it.
"""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

T = TypeVar("T")

hasher = PasswordHasher()
AT_ONCE = 4
WAITING = 20  # a second or so; who came later would only be told "no" later


@cache
def limiter() -> CapacityLimiter:
    """Return what lets a few of them pass at a time."""
    return CapacityLimiter(AT_ONCE)


class Busy(Exception):
    """So many passwords are being looked at that no further one is taken on."""


async def hashed(password: str) -> str:
    """Return what is stored of a password."""
    return await in_turn(hasher.hash, password)


async def matches(password: str, stored: str | None) -> bool:
    """Tell whether it is the password; without a stored one it takes as long, and is not."""
    return await in_turn(verify, password, stored)


async def in_turn(function: Callable[..., T], *given: object) -> T:
    """Call a slow function in a thread, when it is its turn.

    Raises
    ------
    Busy
        Too many wait already.
    """
    if limiter().statistics().tasks_waiting >= WAITING:
        raise Busy
    return await run_sync(function, *given, limiter=limiter())


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
