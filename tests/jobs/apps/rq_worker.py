"""A worker of RQ, that is not told which queue by its command."""

from redis import Redis
from rq import Queue, Worker

from tests.jobs.apps.work import QUEUE, REDIS

with Redis.from_url(REDIS) as client:
    Worker([Queue(QUEUE, connection=client)], connection=client).work()
