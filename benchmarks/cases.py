"""What is measured."""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from sqlalchemy.engine import URL

from benchmarks import by_dbscope, by_hand, model
from benchmarks.client import Client, WrongResult
from benchmarks.measure import Clock, Result, measure
from benchmarks.places import Places, plain

Make = Callable[[URL], tuple[FastAPI, Callable[[], Any]]]


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    driver: str
    method: str
    bar: float
    bar_added: float = float("inf")  # microseconds

    @property
    def makers(self) -> tuple[Make, Make, Make]:
        """Return what makes the applications: by hand, with dbscope, and by hand again."""
        if self.name == "def":
            hand = by_hand.with_plain_endpoints
            return hand, by_dbscope.with_plain_endpoints, hand
        return (
            by_hand.with_async_endpoints,
            by_dbscope.with_async_endpoints,
            by_hand.with_async_endpoints,
        )

    def over(self, result: Result) -> bool:
        return result.ratio(1) > self.bar or result.added > self.bar_added


ASYNC_DRIVERS = ("postgresql+asyncpg", "postgresql+psycopg", "sqlite+aiosqlite")
PLAIN_DRIVERS = ("postgresql+psycopg", "sqlite+pysqlite")
CASES = [
    Case("unused", "-", "GET", bar=1.08, bar_added=3),
    *(Case("read", driver, "GET", bar=1.02) for driver in ASYNC_DRIVERS),
    *(Case("write", driver, "POST", bar=1.02) for driver in ASYNC_DRIVERS),
    *(Case("def", driver, "GET", bar=1.02) for driver in PLAIN_DRIVERS),
    *(Case("def", driver, "POST", bar=1.02) for driver in PLAIN_DRIVERS),
]


async def run(case: Case, places: Places, rounds: int, clock: Clock) -> Result:
    """Measure one case."""
    if case.name == "unused":
        apps = (by_hand.bare(), by_dbscope.bare(), by_hand.bare())
        return await measure([Client(app, case.method) for app in apps], rounds, clock)
    urls = [places.new(case.driver) for _ in case.makers]
    async with clients_of(case, urls) as clients:
        result = await measure(clients, rounds, clock)
    check_stored(clients, urls)
    return result


@asynccontextmanager
async def clients_of(case: Case, urls: list[URL]) -> AsyncIterator[list[Client]]:
    made = [make(url) for make, url in zip(case.makers, urls, strict=True)]
    try:
        yield [Client(app, case.method) for app, _ in made]
    finally:
        for _, dispose in made:
            if inspect.isawaitable(closing := dispose()):
                await closing


def check_stored(clients: list[Client], urls: list[URL]) -> None:
    """Look, from outside, whether all that was answered is stored."""
    for client, url in zip(clients, urls, strict=True):
        expected = client.sent if client.method == "POST" else 0
        if (stored := model.count(plain(url))) != expected:
            raise WrongResult(f"{expected} writes were answered, {stored} are stored in {url}")
