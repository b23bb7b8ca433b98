"""arq: `@db.scope` next to the function."""

import asyncio
import sys

from arq import create_pool
from arq.connections import RedisSettings

from tests.jobs.apps.work import QUEUE, REDIS, db
from tests.jobs.apps.work import work as do


@db.scope
async def work(ctx, case: str) -> None:
    await do(case)


class WorkerSettings:
    functions = (work,)
    redis_settings = RedisSettings.from_dsn(REDIS)
    queue_name = QUEUE
    job_timeout = 5  # and 10 s: then the job of a killed worker is run again
    poll_delay = 0.1


async def send(case: str) -> None:
    pool = await create_pool(RedisSettings.from_dsn(REDIS), default_queue_name=QUEUE)
    await pool.enqueue_job("work", case, _job_id=QUEUE)
    await pool.close()


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1]))
