"""FastStream on RabbitMQ: a quorum queue, which counts, and keeps what is given up."""

import asyncio
import sys

from faststream import FastStream
from faststream.rabbit import QueueType, RabbitBroker, RabbitQueue

from dbscope.jobs.faststream import install
from tests.jobs.apps.work import AMQP, QUEUE, db, work

broker = RabbitBroker(AMQP)
install(db, broker, attempts=3, delay=0.1)
app = FastStream(broker)

dead = RabbitQueue(f"{QUEUE}.dead", durable=True)
queue = RabbitQueue(
    QUEUE,
    durable=True,
    queue_type=QueueType.QUORUM,
    arguments={
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead.name,
        "x-delivery-limit": 10,  # of those whose worker was killed
    },
)


@broker.subscriber(queue)
async def handle(case: str) -> None:
    await work(case)


@app.after_startup
async def declare() -> None:
    await broker.declare_queue(dead)


async def send(case: str) -> None:
    async with RabbitBroker(AMQP) as sender:
        await sender.declare_queue(dead)
        await sender.declare_queue(queue)
        await sender.publish(case, queue)


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1]))
