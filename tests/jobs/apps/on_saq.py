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


async def tell(ctx) -> None:
    """Print when the first sweep of this worker has looked, or that of another just before."""

    async def wait() -> None:
        while not await queue.redis.exists(queue.namespace("sweep")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        sys.stdout.write("has swept\n")

    ctx["telling"] = asyncio.create_task(wait())


# Not oftener: SAQ takes a job that is just being begun for one that a dead worker has left.
settings = {"queue": queue, "functions": [work], "startup": tell, "timers": {"sweep": 5}}
install(db, settings, retries=2)


async def send(case: str) -> None:
    await queue.connect()
    await queue.enqueue("work", key="it", case=case, timeout=10)  # a busy machine is slow
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1]))
