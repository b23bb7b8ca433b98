"""The systems of jobs: how each is started, sent to, and asked what it did with a message."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import nats
import pika
import redis
from celery import Celery
from taskiq import TaskiqResult

import dbscope.jobs.errors  # noqa: F401  (who reads a result must have the errors in it)
import tests.jobs.apps.work  # noqa: F401
from tests.support.look import Onlooker

QUIET_CELERY = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO"]

# It says so to its parent under a lock of both: who dies just then keeps it.
DRAMATIQ_IS_READY = "Worker process is ready for action."


@dataclass(frozen=True)
class System:
    """One of them.

    Args:
        app: its module in `tests.jobs.apps`.
        command: the worker, as `python -m` starts it.
        services: what it needs.
        left: what there is of the message when the worker has stopped, in words; "" for nothing.
        forget: removes what it has left in its broker.
        arguments: for the sender, beside the case.
        ready: what its worker prints when it may get a job and be killed; else it may wait for
            itself for ever, or have it twice.
    """

    app: str
    command: Sequence[str]
    services: Sequence[str]
    left: Callable[[str], str]
    forget: Callable[[str], None]
    arguments: Sequence[str] = ()
    ready: str = ""


# -- NATS ------------------------------------------------------------------------------------------


def left_in_nats(queue: str) -> str:
    """Tell whether the consumer has an unanswered message."""

    async def ask() -> str:
        connection = await nats.connect(os.environ["JOBS_NATS"])
        try:
            consumer = await connection.jetstream().consumer_info(queue, "worker")
        finally:
            await connection.close()
        waiting = consumer.num_pending or consumer.num_ack_pending
        return "waits" if waiting else ""

    return asyncio.run(ask())


def forget_in_nats(queue: str) -> None:
    async def delete() -> None:
        connection = await nats.connect(os.environ["JOBS_NATS"])
        try:
            await connection.jetstream().delete_stream(queue)
        finally:
            await connection.close()

    asyncio.run(delete())


# -- RabbitMQ --------------------------------------------------------------------------------------


def count_in_rabbit(*queues: str) -> list[int]:
    """Count the messages of queues."""
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["JOBS_RABBITMQ"]))
    try:
        channel = connection.channel()
        found = [channel.queue_declare(queue, passive=True) for queue in queues]
        return [each.method.message_count for each in found]
    finally:
        connection.close()


def left_in_rabbit(queue: str) -> str:
    waiting, dead = count_in_rabbit(queue, f"{queue}.dead")
    return "waits" if waiting else "dead letter" if dead else ""


def forget_in_rabbit(queue: str, *suffixes: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["JOBS_RABBITMQ"]))
    channel = connection.channel()
    for suffix in suffixes or ("", ".dead"):
        channel.queue_delete(f"{queue}{suffix}")
    connection.close()


# -- Redis -----------------------------------------------------------------------------------------


def left_in_stream(group: str) -> Callable[[str], str]:
    """Tell whether a message of the stream is pending, or was never read."""

    def left(queue: str) -> str:
        with redis.Redis.from_url(os.environ["JOBS_REDIS"]) as client:
            pending = client.xpending(queue, group)["pending"]
            return "pending" if pending else ""

    return left


def forget_in_redis(queue: str) -> None:
    with redis.Redis.from_url(os.environ["JOBS_REDIS"]) as client:
        if keys := client.keys(f"*{queue}*"):
            client.delete(*keys)


# -- results ---------------------------------------------------------------------------------------


def state_in_celery(queue: str) -> str:
    """Tell which error its result is, if the message is acknowledged."""
    if count_in_rabbit(queue)[0]:
        return "waits"
    with Celery(backend=os.environ["JOBS_REDIS"], set_as_current=False) as app:
        result = app.AsyncResult(queue)
        return type(result.result).__name__ if result.failed() else "" if result.ready() else "?"


def forget_celery(queue: str) -> None:
    forget_in_rabbit(queue, "")
    forget_in_redis(queue)


def state_in_taskiq(left: Callable[[str], str]) -> Callable[[str], str]:
    """Tell which error its result is, if the message is acknowledged."""

    def state(queue: str) -> str:
        if told := left(queue):
            return told
        with redis.Redis.from_url(os.environ["JOBS_REDIS"]) as client:
            stored = [client.get(key) for key in client.keys(f"{queue}:*")]
        results = [TaskiqResult.model_validate(pickle.loads(each)) for each in stored]
        return next((type(each.error).__name__ for each in results if each.is_err), "")

    return state


def left_in_taskiq_rabbit(queue: str) -> str:
    return "waits" if sum(count_in_rabbit(queue, f"{queue}.delay")) else ""


def forget_taskiq_rabbit(queue: str) -> None:
    forget_in_rabbit(queue, "", ".delay", ".dead")
    forget_in_redis(queue)


def left_in_dramatiq_rabbit(queue: str) -> str:
    waiting, delayed, dead = count_in_rabbit(queue, f"{queue}.DQ", f"{queue}.XQ")
    return "waits" if waiting or delayed else "dead letter" if dead else ""


def forget_in_dramatiq(queue: str) -> None:
    forget_in_rabbit(queue, "", ".DQ", ".XQ")


def left_in_dramatiq_redis(queue: str) -> str:
    with redis.Redis.from_url(os.environ["JOBS_REDIS"]) as client:
        if client.llen(f"{queue}:{queue}") or client.llen(f"{queue}:{queue}.DQ"):
            return "waits"
        if any(client.scard(key) for key in client.keys(f"{queue}:__acks__.*")):
            return "waits"
        return "dead letter" if client.zcard(f"{queue}:{queue}.XQ") else ""


def state_in_saq(queue: str) -> str:
    with redis.Redis.from_url(os.environ["JOBS_REDIS"]) as client:
        (key,) = client.keys(f"saq:job:{queue}:*")
        status = str(json.loads(client.get(key))["status"])
    return "" if status == "complete" else status


def state_in_rq(queue: str) -> str:
    """Tell the status of the job."""
    with redis.Redis.from_url(os.environ["JOBS_REDIS"]) as client:
        status = str(client.hget(f"rq:job:{queue}", "status").decode())
    return "" if status == "finished" else status


def state_in_arq(queue: str) -> str:
    """Tell whether the result is an error."""
    with redis.Redis.from_url(os.environ["JOBS_REDIS"]) as client:
        stored = client.get(f"arq:result:{queue}")
    if stored is None:
        return "waits"
    result = pickle.loads(stored)
    return "" if result["s"] else type(result["r"]).__name__


def state_in_procrastinate(url: str) -> str:
    with Onlooker(url) as look:
        status = look.rows("SELECT status::text FROM procrastinate_jobs WHERE task_name = 'work'")
    return "" if status == [("succeeded",)] else str(status[0][0])


SYSTEMS = {
    "FastStream, NATS JetStream": System(
        "on_nats",
        ["faststream", "run", "tests.jobs.apps.on_nats:app"],
        ["NATS"],
        left_in_nats,
        forget_in_nats,
    ),
    "FastStream, RabbitMQ": System(
        "on_rabbit",
        ["faststream", "run", "tests.jobs.apps.on_rabbit:app"],
        ["RabbitMQ"],
        left_in_rabbit,
        forget_in_rabbit,
    ),
    "FastStream, Redis stream": System(
        "on_redis",
        ["faststream", "run", "tests.jobs.apps.on_redis:app"],
        ["Redis"],
        left_in_stream("workers"),
        forget_in_redis,
    ),
    "Celery, RabbitMQ": System(
        "on_celery",
        ["celery", "-A", "tests.jobs.apps.on_celery", "worker", "-c", "1", *QUIET_CELERY],
        ["RabbitMQ", "Redis"],
        state_in_celery,
        forget_celery,
    ),
    "Celery, `autoretry_for`": System(
        "on_celery",
        ["celery", "-A", "tests.jobs.apps.on_celery", "worker", "-c", "1", *QUIET_CELERY],
        ["RabbitMQ", "Redis"],
        state_in_celery,
        forget_celery,
        ["stubborn"],
    ),
    "Taskiq, RabbitMQ": System(
        "on_taskiq",
        ["taskiq", "worker", "-w", "1", "tests.jobs.apps.on_taskiq:broker"],
        ["RabbitMQ", "Redis"],
        state_in_taskiq(left_in_taskiq_rabbit),
        forget_taskiq_rabbit,
    ),
    "Taskiq, RabbitMQ, retries": System(
        "on_taskiq",
        ["taskiq", "worker", "-w", "1", "tests.jobs.apps.on_taskiq:broker"],
        ["RabbitMQ", "Redis"],
        state_in_taskiq(left_in_taskiq_rabbit),
        forget_taskiq_rabbit,
        ["stubborn"],
    ),
    "Taskiq, Redis stream": System(
        "on_taskiq_redis",
        ["taskiq", "worker", "-w", "1", "tests.jobs.apps.on_taskiq_redis:broker"],
        ["Redis"],
        state_in_taskiq(left_in_stream("taskiq")),
        forget_in_redis,
    ),
    "Dramatiq, RabbitMQ": System(
        "on_dramatiq",
        ["dramatiq", "-p", "1", "-t", "1", "tests.jobs.apps.on_dramatiq"],
        ["RabbitMQ"],
        left_in_dramatiq_rabbit,
        forget_in_dramatiq,
        ready=DRAMATIQ_IS_READY,
    ),
    "Dramatiq, async actor": System(
        "on_dramatiq",
        ["dramatiq", "-p", "1", "-t", "1", "tests.jobs.apps.on_dramatiq"],
        ["RabbitMQ"],
        left_in_dramatiq_rabbit,
        forget_in_dramatiq,
        ["async"],
        ready=DRAMATIQ_IS_READY,
    ),
    "Dramatiq, Redis": System(
        "on_dramatiq_redis",
        ["dramatiq", "-p", "1", "-t", "1", "tests.jobs.apps.on_dramatiq_redis"],
        ["Redis"],
        left_in_dramatiq_redis,
        forget_in_redis,
        ready=DRAMATIQ_IS_READY,
    ),
    "SAQ, Redis": System(
        "on_saq",
        ["saq", "tests.jobs.apps.on_saq.settings"],
        ["Redis"],
        state_in_saq,
        forget_in_redis,
        ready="has swept",
    ),
    "RQ, `@db.scope`": System(
        "on_rq",
        ["tests.jobs.apps.rq_worker"],
        ["Redis"],
        state_in_rq,
        forget_in_redis,
    ),
    "arq, `@db.scope`": System(
        "on_arq",
        ["arq", "tests.jobs.apps.on_arq.WorkerSettings"],
        ["Redis"],
        state_in_arq,
        forget_in_redis,
    ),
    "Procrastinate, PostgreSQL": System(
        "on_procrastinate",
        ["procrastinate", "-a", "tests.jobs.apps.on_procrastinate.app", "worker"],
        [],
        state_in_procrastinate,
        lambda queue: None,
    ),
}
