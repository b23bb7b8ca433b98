"""The outbox: half of the transactions are rolled back, and relays are killed in the middle."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from dbscope import AsyncDatabase
from dbscope.outbox import AsyncOutbox, metadata
from tests.acceptance.servers import ROOT
from tests.acceptance.test_once import KINDS, reached
from tests.support.look import Onlooker

KEYS = 7
WRITERS = 4
on_each = pytest.mark.parametrize("url", ["inline", "psycopg", "asyncpg", "asyncmy"], indirect=True)


class Trouble(Exception):
    """For which a transaction is rolled back."""


@on_each
@pytest.mark.timeout(900)
def test_exactly_the_messages_of_what_was_committed_are_published(
    url: str,
    tmp_path: Path,
    times: Callable[[int, int], int],
    figures: Callable[[str], None],
) -> None:
    """None lost, none that was rolled back, and in order by key; what came twice is counted."""
    transactions, kills = times(200, 1000), times(3, 10)
    file = tmp_path / "published"
    parsed = make_url(url)
    engine = create_engine(parsed.set(drivername=KINDS[parsed.get_backend_name()]))
    metadata.create_all(engine)
    engine.dispose()
    committed = asyncio.run(storm(url, file, transactions, kills))
    published = [line.split() for line in file.read_text().splitlines()]
    first = list(dict.fromkeys((key, int(value)) for key, value in published))
    assert {value for _, value in first} == committed
    by_key = collections.defaultdict(list)
    for key, value in first:
        by_key[key].append(value)
    assert all(values == sorted(values) for values in by_key.values())
    twice = len(published) - len(first)
    told = f"{len(committed)} published, 0 lost, 0 of those that were rolled back"
    figures(f"{transactions} transactions, {kills} kills: {told}; {twice} came twice")


async def storm(url: str, file: Path, transactions: int, kills: int) -> set[int]:
    """Send, while relays come and go; return what was committed, when all of it was relayed."""
    db = AsyncDatabase(url)
    outbox = AsyncOutbox(db, print)
    committed: set[int] = set()
    numbers = iter(range(transactions))

    async def write(key: int) -> None:
        for number in numbers:
            try:
                async with db.scope():
                    # A key belongs to one writer, so that its numbers are sent in their order.
                    await outbox.send("topic", number, key=f"{key}-{number % KEYS}")
                    if number % 2:
                        raise Trouble
            except Trouble:
                continue
            committed.add(number)

    relays = Relays(url, file)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(relays.run(kills, transactions // 2))
            for key in range(WRITERS):
                group.create_task(write(key))
        while await outbox.waiting():  # noqa: ASYNC110  (other processes relay)
            await asyncio.sleep(0.05)
    finally:
        await relays.end()
        await db.dispose()
    with Onlooker(url) as look:
        assert look.scalar("SELECT count(*) FROM dbscope_outbox") == 0
    return committed


class Relays:
    """Two relays in processes of their own, which publish to one file."""

    def __init__(self, url: str, file: Path) -> None:
        self._url = url
        self._file = file
        self._running: list[asyncio.subprocess.Process] = []

    async def run(self, kills: int, expected: int) -> None:
        """Kill both in the middle of their work, again and again, and start others."""
        await self._start()
        for number in range(kills):
            wanted = (number + 1) * expected // (kills + 1)
            await reached(partial(lines, self._file), wanted)
            await self.end()
            await self._start()

    async def _start(self) -> None:
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        command = ("-m", "tests.acceptance.outbox_relay", self._url, str(self._file))
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path},
                stdout=subprocess.DEVNULL,
            )
            self._running.append(process)

    async def end(self) -> None:
        """Kill them."""
        for process in self._running:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        self._running.clear()


def lines(file: Path) -> int:
    """Return how many messages were published so far."""
    return file.read_bytes().count(b"\n") if file.exists() else 0
