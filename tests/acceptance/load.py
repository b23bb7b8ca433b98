"""Clients that go on sending requests while something is done to the database."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from dbscope import TransactionOutcomeUnknown
from tests.acceptance.application import Application
from tests.asgi import Answer


@dataclass
class Load:
    """Some clients, and what they were told."""

    under: Application
    acknowledged: set[int]
    clients: int = 8
    answers: Counter[str] = field(default_factory=Counter)
    first_number: int = 0
    first_ok: float | None = None  # seconds after `mark()`
    marked: float = float("inf")
    recovered: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._number = self.first_number
        self.tasks = [asyncio.create_task(self._client()) for _ in range(self.clients)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stopping = True
        done, late = await asyncio.wait(self.tasks, timeout=40)
        for task in late:
            task.cancel()
        assert not late, "a client was never answered"
        for task in done:
            task.result()

    def mark(self) -> None:
        """Look for the first good answer to a request that is sent from now on."""
        self.marked, self.first_ok = time.perf_counter(), None
        self.recovered.clear()

    async def until_ok(self, patience: float = 30.0) -> float:
        """Wait for that answer, and return how long it took."""
        async with asyncio.timeout(patience):
            await self.recovered.wait()
        assert self.first_ok is not None
        return self.first_ok

    async def _client(self) -> None:
        while not self.stopping:
            sent = time.perf_counter()
            self._number += 1
            answer = await self.under.post(f"/work/{self._number}", self.acknowledged)
            self.answers[told(answer)] += 1
            if answer.status == 200 and sent >= self.marked and self.first_ok is None:
                self.first_ok = time.perf_counter() - self.marked
                self.recovered.set()
            if answer.status != 200:
                await asyncio.sleep(0.002)  # a client that is told to come back does not spin


def told(answer: Answer) -> str:
    """Name what a client was told; an honest server knows only three answers."""
    retry_after = "retry-after" in answer.headers
    if answer.status == 200:
        return "OK"
    if answer.status == 503 and retry_after and answer.error is None:
        return "503"
    if isinstance(answer.error, TransactionOutcomeUnknown) and not retry_after:
        return "unknown"
    return (
        f"{answer.status} {answer.error!r} caused by {getattr(answer.error, '__cause__', None)!r}"
    )


HONEST = {"OK", "503", "unknown"}
