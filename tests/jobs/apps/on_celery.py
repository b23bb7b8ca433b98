"""Celery on RabbitMQ, with its results in Redis; workers are forked."""

import sys

from celery import Celery
from sqlalchemy import text

from dbscope.jobs.celery import install
from tests.jobs.apps.work import AMQP, QUEUE, REDIS, db, plain_work

app = Celery("jobs", broker=AMQP, backend=REDIS)
app.conf.update(task_default_queue=QUEUE, task_create_missing_queue_type="classic")
install(db, app)

with db.sync.scope():  # before the worker forks: the parent's connections stay the parent's
    db.sync.scalar(text("SELECT 1"))


@app.task(name="work")
def work(case: str) -> None:
    plain_work(case)


@app.task(name="stubborn_work", autoretry_for=(Exception,), default_retry_delay=0.1, max_retries=2)
def stubborn_work(case: str) -> None:
    plain_work(case)


if __name__ == "__main__":
    (stubborn_work if "stubborn" in sys.argv else work).apply_async([sys.argv[1]], task_id=QUEUE)
