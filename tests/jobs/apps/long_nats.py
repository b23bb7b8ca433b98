"""10,000 messages on NATS, each done once: `db.once` has its id in the transaction of the work."""

import asyncio
import random
import sys
from pathlib import Path

from faststream import FastStream
from faststream.nats import JStream, NatsBroker, PullSub
from nats.js.api import ConsumerConfig
from sqlalchemy import text

from dbscope.jobs.faststream import install, message_id
from dbscope.once import metadata
from tests.jobs.apps.work import NATS, QUEUE, RUNS, Trouble, db, die

broker = NatsBroker(NATS)
install(db, broker, attempts=1_000_000, delay=0.05, max_delay=0.05)
app = FastStream(broker)

APPLY = text("INSERT INTO applied (message, number) VALUES (:message, :number)")
COUNT = text("UPDATE counted SET n = n + 1 WHERE shard = :shard")
FAULT = 0.01
SHARDS = 16


@broker.subscriber(
    f"{QUEUE}.work",
    stream=JStream(QUEUE, subjects=[f"{QUEUE}.>"]),
    durable="worker",
    pull_sub=PullSub(batch_size=50, timeout=1),
    config=ConsumerConfig(ack_wait=5, max_ack_pending=200),
    max_workers=5,
)
async def handle(number: int) -> None:
    message = message_id()
    async with db.once(message) as once:
        if not once.done:
            await db.execute(APPLY, {"message": message, "number": number})
            await db.execute(COUNT, {"shard": number % SHARDS})
    if random.random() < FAULT:
        raise Trouble
    if is_to_die():
        random.choice([die, lambda: db.on_commit(die)])()


def is_to_die() -> bool:
    """Tell whether a kill is due, and happens here."""
    wanted = Path(f"{RUNS}.kill")
    if random.random() < 0.1 and wanted.exists():
        wanted.unlink()
        return True
    return False


async def send(count: int) -> None:
    await db.ensure_schema(metadata)
    await db.dispose()
    async with NatsBroker(NATS) as sender:
        await sender.connection.jetstream().add_stream(name=QUEUE, subjects=[f"{QUEUE}.>"])
        for number in range(count):
            await sender.publish(number, f"{QUEUE}.work", stream=QUEUE)


if __name__ == "__main__":
    asyncio.run(send(int(sys.argv[1])))
