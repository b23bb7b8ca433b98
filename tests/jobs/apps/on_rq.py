"""RQ, which forks for each job: `@db.scope` next to the function."""

import sys

from redis import Redis
from rq import Queue, Retry

from tests.jobs.apps.work import QUEUE, REDIS, db, plain_work


@db.sync.scope
def work(case: str) -> None:
    plain_work(case)


if __name__ == "__main__":
    with Redis.from_url(REDIS) as client:
        job = "tests.jobs.apps.on_rq.work"
        Queue(QUEUE, connection=client).enqueue(job, sys.argv[1], retry=Retry(2), job_id=QUEUE)
