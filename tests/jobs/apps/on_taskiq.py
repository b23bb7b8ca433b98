"""Taskiq on RabbitMQ."""

import asyncio
import sys

from taskiq import SmartRetryMiddleware
from taskiq_aio_pika import AioPikaBroker, Queue
from taskiq_redis import RedisAsyncResultBackend

from dbscope.jobs.taskiq import install
from tests.jobs.apps.work import AMQP, QUEUE, REDIS, db
from tests.jobs.apps.work import work as do

broker = AioPikaBroker(
    AMQP,
    task_queues=[Queue(name=QUEUE)],
    delay_queue=Queue(name=f"{QUEUE}.delay"),
    dead_letter_queue=Queue(name=f"{QUEUE}.dead"),
).with_result_backend(RedisAsyncResultBackend(REDIS, prefix_str=QUEUE))
broker.add_middlewares(SmartRetryMiddleware(default_delay=0.1))
install(db, broker)


@broker.task(task_name="work")
async def work(case: str) -> None:
    await do(case)


@broker.task(task_name="stubborn_work", retry_on_error=True, max_retries=3)
async def stubborn_work(case: str) -> None:
    await do(case)


async def send(case: str) -> None:
    await broker.startup()
    await (stubborn_work if "stubborn" in sys.argv else work).kiq(case)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1]))
