"""What is measured."""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from sqlalchemy.engine import URL

from benchmarks import by_dbscope, by_hand, model, statements
from benchmarks.client import ALL, ONE, Client, WrongResult
from benchmarks.measure import Clock, Result, Size, measure
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
    delay: float = 0  # seconds that the network adds to each round trip
    at_once: int = 1  # requests
    ours: str = ""  # driver of the variant with dbscope, if it has another
    short_turns: bool = False  # ten requests, whatever the drivers are

    @property
    def drivers(self) -> tuple[str, str, str]:
        """Return the driver of each variant."""
        return self.driver, self.ours or self.driver, self.driver

    @property
    def label(self) -> str:
        """Return what the table calls it."""
        return self.name if self.at_once == 1 else f"{self.name} {self.at_once}"

    @property
    def used(self) -> str:
        """Return what the table says of its drivers."""
        if not self.ours:
            return self.driver
        return f"{self.driver} / {self.ours}".replace("sqlite+", "")

    @property
    def path(self) -> str:
        """Return what is asked for."""
        return ALL if self.name == "hundred" else ONE

    @property
    def makers(self) -> tuple[Make, Make, Make]:
        """Return what makes the applications: by hand, with dbscope, and by hand again."""
        hand, ours = MAKERS[self.name]
        return hand, ours, hand

    @property
    def size(self) -> Size:
        """Return how much a round is."""
        if self.ours and not self.short_turns:
            # After a turn of the variant that has threads, the processor is cold for a while.
            return Size(turns=1, requests=100, warm_up=400)
        if self.at_once == 1:
            return Size()
        turns = max(1, 100 // self.at_once)
        return Size(turns=turns, requests=self.at_once, warm_up=self.at_once)

    def over(self, result: Result) -> bool:
        return result.ratio(1) > self.bar or result.added > self.bar_added


BY_HAND = by_hand.with_async_endpoints
MAKERS: dict[str, tuple[Make, Make]] = {
    "read": (BY_HAND, by_dbscope.with_async_endpoints),
    "write": (BY_HAND, by_dbscope.with_async_endpoints),
    "def": (by_hand.with_plain_endpoints, by_dbscope.with_plain_endpoints),
    "key": (BY_HAND, by_dbscope.with_async_endpoints),
    "modify": (by_hand.with_a_lock, by_dbscope.with_async_endpoints),
    "hundred": (BY_HAND, by_dbscope.with_async_endpoints),
    "autocommit": (BY_HAND, by_dbscope.in_autocommit),
    "distant": (BY_HAND, by_dbscope.in_autocommit),
    "crowd": (by_dbscope.crowded, by_dbscope.crowded_in_autocommit),
}
AIOSQLITE, INLINE = "sqlite+aiosqlite", "sqlite+inline"
ASYNC_DRIVERS = ("postgresql+asyncpg", "postgresql+psycopg", AIOSQLITE, INLINE)
PLAIN_DRIVERS = ("postgresql+psycopg", "sqlite+pysqlite")
AT_ONCE = (1, 10, 100)
KINDS = ("text", "core", "orm")
STATEMENTS = {
    "statement": (statements.directly, statements.awaited, statements.directly),
    "session": (statements.by_session, statements.by_dbscope, statements.by_session),
}
CASES = [
    Case("unused", "-", "GET", bar=1.08, bar_added=3),
    *(Case("read", driver, "GET", bar=1.02) for driver in ASYNC_DRIVERS),
    *(Case("write", driver, "POST", bar=1.02) for driver in ASYNC_DRIVERS),
    *(Case("def", driver, "GET", bar=1.02) for driver in PLAIN_DRIVERS),
    *(Case("def", driver, "POST", bar=1.02) for driver in PLAIN_DRIVERS),
    # Inline there is no round trip to be saved, and next to no BEGIN and COMMIT.
    *(Case("autocommit", driver, "GET", bar=0.80) for driver in ASYNC_DRIVERS[:3]),
    *(Case("distant", driver, "GET", bar=0.55, delay=0.002) for driver in ASYNC_DRIVERS[:2]),
    *(Case("crowd", driver, "GET", bar=1 / 8, at_once=200) for driver in ASYNC_DRIVERS[:2]),
    *(Case("key", AIOSQLITE, "GET", bar=0.40, at_once=n, ours=INLINE) for n in AT_ONCE),
    *(Case("modify", AIOSQLITE, "POST", bar=0.50, at_once=n, ours=INLINE) for n in AT_ONCE),
    *(Case("hundred", AIOSQLITE, "GET", bar=0.60, at_once=n, ours=INLINE) for n in AT_ONCE),
    *(Case(name, "sqlite", kind, bar=1.6, ours=INLINE) for name in STATEMENTS for kind in KINDS),
]


async def run(case: Case, places: Places, rounds: int, clock: Clock) -> Result:
    """Measure one case."""
    if case.name == "unused":
        apps = (by_hand.bare(), by_dbscope.bare(), by_hand.bare())
        return await measure([Client(app, case.method) for app in apps], rounds, clock)
    urls = [places.new(driver) for driver in case.drivers]
    if case.name in STATEMENTS:
        return await run_statement(case, urls, rounds, clock)
    asked = [places.distant(url, case.delay) if case.delay else url for url in urls]
    async with clients_of(case, asked) as clients:
        result = await measure(clients, rounds, clock, case.size)
    check_stored(clients, urls)
    return result


async def run_statement(case: Case, urls: list[URL], rounds: int, clock: Clock) -> Result:
    async with AsyncExitStack() as stack:
        openers = zip(STATEMENTS[case.name], urls, strict=True)
        opened = [opener(url, case.method) for opener, url in openers]
        subjects = [await stack.enter_async_context(each) for each in opened]
        return await measure(subjects, rounds, clock)


@asynccontextmanager
async def clients_of(case: Case, urls: list[URL]) -> AsyncIterator[list[Client]]:
    made = [make(url) for make, url in zip(case.makers, urls, strict=True)]
    try:
        yield [Client(app, case.method, case.path, case.at_once) for app, _ in made]
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
