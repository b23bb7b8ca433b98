"""SAQ on Redis."""

import asyncio
import sys

from saq import Queue

from dbscope.jobs.saq import install
from tests.jobs.apps.work import QUEUE, REDIS, db
from tests.jobs.apps.work import work as do

queue = Queue.from_url(REDIS, name=QUEUE)


async def work(ctx, *, case: str) -> None:
    await do(case)


# Not oftener: SAQ takes a job that is just being begun for one that a dead worker has left.
settings = {"queue": queue, "functions": [work], "timers": {"sweep": 5}}
install(db, settings, retries=2)


async def send(case: str) -> None:
    await queue.connect()
    await queue.enqueue("work", key="it", case=case, timeout=10)  # a busy machine is slow
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1]))
