"""FastStream on a stream of Redis: one subscriber takes what is new, one what was left."""

import asyncio
import sys

import redis.asyncio as redis
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub

from dbscope.jobs.faststream import install
from tests.jobs.apps.work import QUEUE, REDIS, db, work

broker = RedisBroker(REDIS)
install(db, broker, attempts=3)
app = FastStream(broker)


@broker.subscriber(stream=StreamSub(QUEUE, group="workers", consumer="a"))
@broker.subscriber(
    stream=StreamSub(QUEUE, group="workers", consumer="a", min_idle_time=4000, polling_interval=50)
)
async def handle(case: str) -> None:
    await work(case)


async def send(case: str) -> None:
    async with redis.Redis.from_url(REDIS) as client:
        await client.xgroup_create(QUEUE, "workers", id="0", mkstream=True)
    async with RedisBroker(REDIS) as sender:
        await sender.publish(case, stream=QUEUE)


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1]))
