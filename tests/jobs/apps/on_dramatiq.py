"""Dramatiq on RabbitMQ: a plain actor and an async one."""

import sys

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware import AsyncIO

from dbscope.jobs.dramatiq import install
from tests.jobs.apps.work import AMQP, QUEUE, db, plain_work
from tests.jobs.apps.work import work as do

broker = RabbitmqBroker(url=AMQP)
broker.add_middleware(AsyncIO())
install(db, broker)
dramatiq.set_broker(broker)

OPTIONS = {"queue_name": QUEUE, "max_retries": 2, "min_backoff": 100, "max_backoff": 100}


@dramatiq.actor(**OPTIONS)
def work(case: str) -> None:
    plain_work(case)


@dramatiq.actor(**OPTIONS)
async def async_work(case: str) -> None:
    await do(case)


if __name__ == "__main__":
    (async_work if "async" in sys.argv else work).send(sys.argv[1])
