"""An outbox on the database of a world, and what it has published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.util import await_only

from dbscope.outbox import AsyncOutbox, Message, Outbox, metadata
from tests.once.conftest import PLAIN
from tests.worlds import World, waiting


class Box:
    """The outbox of a world, whose members need no await, and a publisher that remembers."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world = world
        self.messages: list[Message] = []
        self.refuses: Callable[[Message], bool] = lambda _: False
        kind: Any = AsyncOutbox if world.is_async else Outbox
        self.real = kind(world.database, self.publisher(), **{"backoff": self.backoff, **options})
        self.pauses: list[int] = []

    def backoff(self, failed: int) -> float:
        """Try again at once, and remember how often it has failed."""
        self.pauses.append(failed)
        return 0.0

    def publisher(self) -> Callable[[Message], Any]:
        """Return a publisher of the world's kind."""
        if not self.world.is_async:
            return lambda message: self.publish(message)  # noqa: PLW0108  (a test may change it)

        async def publish(message: Message) -> None:
            self.publish(message)

        return publish

    def publish(self, message: Message) -> None:
        """Remember the message, or refuse it."""
        if self.refuses(message):
            raise ConnectionError(f"not now: {message.value}")
        self.messages.append(message)

    def __getattr__(self, name: str) -> Any:
        """Give a member of the real one; what it returns to be awaited is awaited."""
        member = getattr(self.real, name)
        return waiting(member) if callable(member) else member

    @property
    def values(self) -> list[Any]:
        """What was published."""
        return [message.value for message in self.messages]

    def rows(self, columns: str = "attempts, last_error") -> list[tuple[Any, ...]]:
        """Return what is stored, as another client sees it."""
        return list(self.world.look.rows(f"SELECT {columns} FROM dbscope_outbox ORDER BY id"))

    def send(self, value: Any, **how: Any) -> str:
        """Send a message to the topic of the tests."""
        sent: str = waiting(self.real.send)("topic", value, **how)
        return sent

    def flush(self) -> None:
        """Relay until nothing is due."""
        while self.relay_once():
            pass

    @contextmanager
    def relaying(self) -> Iterator[None]:
        """Relay while it lasts, in a task or a thread of its own."""
        if self.world.is_async:
            task = asyncio.get_running_loop().create_task(self.real.relay())
            try:
                yield
            finally:
                self.real.stop()
                await_only(task)
        else:
            with self.real.running():
                yield


@pytest.fixture
def make_box(world: World) -> Callable[..., Box]:
    """Make outboxes, on an empty table."""
    url = world.look.url
    engine = create_engine(url.set(drivername=PLAIN[url.get_backend_name()]))
    metadata.create_all(engine)
    engine.dispose()
    return lambda **options: Box(world, **options)


@pytest.fixture
def box(make_box: Callable[..., Box]) -> Box:
    """An outbox on an empty table."""
    return make_box()
