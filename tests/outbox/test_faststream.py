"""Messages of the outbox at real brokers, by FastStream."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from faststream.nats import JStream, NatsBroker
from faststream.nats.annotations import NatsMessage
from faststream.rabbit import RabbitBroker, RabbitQueue
from faststream.rabbit.annotations import RabbitMessage
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.annotations import RedisStreamMessage

from dbscope import AsyncDatabase
from dbscope.outbox import AsyncOutbox, metadata
from dbscope.outbox.faststream import publisher

pytestmark = pytest.mark.anyio
PORTS = {"nats": 4222, "rabbit": 5672, "redis": 6379}


class Ends:
    """Both ends of a broker: what publishes, and what has arrived."""

    def __init__(self, kind: str, topic: str) -> None:
        self.topic = topic
        self.arrived: list[tuple[Any, str | None]] = []
        self.broker, self.publish = getattr(self, f"at_{kind}")()

    def at_nats(self) -> tuple[Any, Any]:
        """Return those of a stream of JetStream, which acknowledges."""
        broker = NatsBroker()
        stream = JStream(name=self.topic, subjects=[self.topic], declare=True)

        @broker.subscriber(self.topic, stream=stream, deliver_policy="all")
        async def handle(body: Any, message: NatsMessage) -> None:
            self.arrived.append((body, message.headers.get("Nats-Msg-Id")))

        return broker, publisher(broker, stream=self.topic)

    def at_rabbit(self) -> tuple[Any, Any]:
        """Return those of a queue, which confirms."""
        broker = RabbitBroker()

        @broker.subscriber(RabbitQueue(self.topic, auto_delete=True))
        async def handle(body: Any, message: RabbitMessage) -> None:
            self.arrived.append((body, message.message_id))

        return broker, publisher(broker)

    def at_redis(self) -> tuple[Any, Any]:
        """Return those of a stream."""
        broker = RedisBroker()

        @broker.subscriber(stream=StreamSub(self.topic, last_id="0"))
        async def handle(body: Any, message: RedisStreamMessage) -> None:
            self.arrived.append((body, message.headers.get("message-id")))

        return broker, publisher(broker)

    async def wait_for(self, number: int) -> None:
        """Wait until as many have arrived."""
        async with asyncio.timeout(40):
            while len(self.arrived) < number:  # noqa: ASYNC110  (the broker delivers)
                await asyncio.sleep(0.01)


@pytest.fixture(params=sorted(PORTS))
def ends(request: pytest.FixtureRequest) -> Ends:
    """Both ends of one of the brokers, on its usual port."""
    try:
        socket.create_connection(("127.0.0.1", PORTS[request.param]), timeout=5).close()
    except OSError as error:
        told = f"no {request.param} at 127.0.0.1:{PORTS[request.param]} ({error})"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    return Ends(request.param, f"outbox-{uuid.uuid4().hex}")


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[AsyncDatabase]:
    """A database with the table."""
    db = AsyncDatabase(f"sqlite:///{tmp_path}/outbox.db")
    await db.ensure_schema(metadata)
    yield db
    await db.dispose()


async def test_what_is_committed_arrives_with_its_id(db: AsyncDatabase, ends: Ends) -> None:
    """In its order; what is rolled back does not."""
    outbox = AsyncOutbox(db, ends.publish)
    async with db.scope():
        await outbox.send(ends.topic, "not")
        db.set_rollback(True)
    async with db.scope():
        ids = [await outbox.send(ends.topic, {"n": n}, key="k") for n in range(3)]
    async with ends.broker:
        await ends.broker.start()
        await outbox.relay_once()
        await ends.wait_for(3)
    assert ends.arrived == [({"n": n}, ids[n]) for n in range(3)]
    assert await outbox.waiting() == 0


async def test_what_a_broker_has_not_taken_is_kept(db: AsyncDatabase, ends: Ends) -> None:
    """Nothing is deleted before the broker has it: here it is not connected yet."""
    outbox = AsyncOutbox(db, ends.publish, backoff=lambda failed: 0)
    async with db.scope():
        await outbox.send(ends.topic, {"n": 1})
    assert await outbox.relay_once() == 1
    assert await outbox.waiting() == 1
    async with ends.broker:
        await ends.broker.start()
        await outbox.relay_once()
        await ends.wait_for(1)
    assert await outbox.waiting() == 0
