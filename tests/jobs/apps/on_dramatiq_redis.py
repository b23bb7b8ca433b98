"""Dramatiq on Redis."""

import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from dbscope.jobs.dramatiq import install
from tests.jobs.apps.work import QUEUE, REDIS, db, plain_work

broker = RedisBroker(
    url=REDIS,
    namespace=QUEUE,
    heartbeat_timeout=5000,  # milliseconds until what a killed worker had is given to another
    maintenance_chance=1_000_000,
)
install(db, broker)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=QUEUE, max_retries=2, min_backoff=100, max_backoff=100)
def work(case: str) -> None:
    plain_work(case)


if __name__ == "__main__":
    work.send(sys.argv[1])
