"""Taskiq on a stream of Redis."""

import asyncio
import sys

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from dbscope.jobs.taskiq import install
from tests.jobs.apps.work import QUEUE, REDIS, db
from tests.jobs.apps.work import work as do

broker = RedisStreamBroker(
    REDIS,
    queue_name=QUEUE,
    consumer_id="0",
    idle_timeout=5000,
    xread_block=200,
    unacknowledged_lock_timeout=5,
).with_result_backend(RedisAsyncResultBackend(REDIS, prefix_str=QUEUE))
install(db, broker)


@broker.task(task_name="work")
async def work(case: str) -> None:
    await do(case)


async def send(case: str) -> None:
    await broker.startup()
    await work.kiq(case)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1]))
