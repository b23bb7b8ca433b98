"""FastStream on NATS JetStream."""

import asyncio
import sys

from faststream import FastStream
from faststream.nats import JStream, NatsBroker
from nats.js.api import ConsumerConfig

from dbscope.jobs.faststream import install
from tests.jobs.apps.work import NATS, QUEUE, db, work

broker = NatsBroker(NATS)
install(db, broker, attempts=3, delay=0.1)
app = FastStream(broker)


@broker.subscriber(
    f"{QUEUE}.work",
    stream=JStream(QUEUE, subjects=[f"{QUEUE}.>"]),
    durable="worker",
    pull_sub=True,
    config=ConsumerConfig(ack_wait=5),  # seconds until what a killed worker had is given to another
)
async def handle(case: str) -> None:
    await work(case)


async def send(case: str) -> None:
    async with NatsBroker(NATS) as sender:
        await sender.connection.jetstream().add_stream(name=QUEUE, subjects=[f"{QUEUE}.>"])
        await sender.publish(case, f"{QUEUE}.work", stream=QUEUE)


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1]))
