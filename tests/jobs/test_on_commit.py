"""What is sent on commit: once, after COMMIT, or never. The brokers are real, and count."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial

import dramatiq
import nats
import pika
import pytest
import redis
from celery import Celery
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from faststream.nats import NatsBroker
from procrastinate import App
from procrastinate.testing import InMemoryConnector
from saq import Queue
from sqlalchemy import text
from sqlalchemy.orm.exc import StaleDataError
from taskiq_redis import RedisStreamBroker

from dbscope import AsyncDatabase, TransactionRequired
from dbscope.jobs import celery as on_celery
from dbscope.jobs import dramatiq as on_dramatiq
from dbscope.jobs import faststream as on_faststream
from dbscope.jobs import procrastinate as on_procrastinate
from dbscope.jobs import saq as on_saq
from dbscope.jobs import taskiq as on_taskiq

STORE = text("INSERT INTO t VALUES (1)")


class Trouble(Exception):
    pass


class Sender:
    """What sends on commit by one system, and how much its broker has."""

    def __init__(
        self, on_commit: Callable[[], None], count: Callable[[], int], *, is_awaited: bool
    ) -> None:
        self.on_commit = on_commit
        self.is_awaited = is_awaited
        self._count = count

    async def count(self) -> int:
        return await asyncio.to_thread(self._count)


@pytest.fixture
async def db(tmp_path):
    db = AsyncDatabase(f"sqlite:///{tmp_path}/sent.db")
    async with db.scope():
        await db.execute(text("CREATE TABLE t (n INTEGER)"))
    yield db
    await db.dispose()


@pytest.fixture
async def sender(request, db, services) -> AsyncIterator[Sender]:
    services.require(*NEEDS[request.param])
    async with AsyncExitStack() as stack:
        yield await SENDERS[request.param](db, stack, f"dbscope-{secrets.token_hex(4)}")


async def by_celery(db, stack, queue) -> Sender:

    app = stack.enter_context(Celery(broker=os.environ["JOBS_REDIS"], set_as_current=False))
    app.conf.task_default_queue = queue
    on_celery.install(db, app)

    @app.task(shared=False, name="work")
    def work(number: int) -> None: ...

    client = stack.enter_context(redis.Redis.from_url(os.environ["JOBS_REDIS"]))
    stack.callback(lambda: client.delete(*client.keys(f"*{queue}*") or ["none"]))
    return Sender(partial(work.delay_on_commit, 1), lambda: client.llen(queue), is_awaited=False)


async def by_dramatiq(db, stack, queue) -> Sender:

    broker = RabbitmqBroker(url=os.environ["JOBS_RABBITMQ"])
    stack.callback(broker.close)

    @dramatiq.actor(broker=broker, queue_name=queue)
    def work(number: int) -> None: ...

    def count() -> int:
        with pika.BlockingConnection(pika.URLParameters(os.environ["JOBS_RABBITMQ"])) as connection:
            channel = connection.channel()
            try:
                return channel.queue_declare(queue, passive=True).method.message_count
            except pika.exceptions.ChannelClosedByBroker:  # not before the first message
                return 0

    def forget() -> None:
        with pika.BlockingConnection(pika.URLParameters(os.environ["JOBS_RABBITMQ"])) as connection:
            for suffix in ("", ".DQ", ".XQ"):
                connection.channel().queue_delete(f"{queue}{suffix}")

    stack.callback(forget)
    on_commit = partial(on_dramatiq.delay_on_commit, db, work, 1)
    return Sender(on_commit, count, is_awaited=False)


async def by_faststream(db, stack, queue) -> Sender:

    broker = await stack.enter_async_context(NatsBroker(os.environ["JOBS_NATS"]))
    stream = broker.connection.jetstream()
    await stream.add_stream(name=queue, subjects=[f"{queue}.>"])
    stack.push_async_callback(stream.delete_stream, queue)

    async def ask() -> int:
        connection = await nats.connect(os.environ["JOBS_NATS"])
        try:
            return (await connection.jetstream().stream_info(queue)).state.messages
        finally:
            await connection.close()

    send = partial(on_faststream.publish_on_commit, db, broker, 1, f"{queue}.in", stream=queue)
    return Sender(send, lambda: asyncio.run(ask()), is_awaited=True)


async def by_taskiq(db, stack, queue) -> Sender:

    broker = RedisStreamBroker(os.environ["JOBS_REDIS"], queue_name=queue)
    await broker.startup()
    stack.push_async_callback(broker.shutdown)

    @broker.task
    async def work(number: int) -> None: ...

    client = stack.enter_context(redis.Redis.from_url(os.environ["JOBS_REDIS"]))
    stack.callback(client.delete, queue)
    on_commit = partial(on_taskiq.delay_on_commit, db, work, 1)
    return Sender(on_commit, lambda: client.xlen(queue), is_awaited=True)


async def by_saq(db, stack, name) -> Sender:

    queue = Queue.from_url(os.environ["JOBS_REDIS"], name=name)
    await queue.connect()
    await queue.redis.ping()  # its client reads files when it connects
    client = stack.enter_context(redis.Redis.from_url(os.environ["JOBS_REDIS"]))
    stack.push_async_callback(queue.disconnect)
    stack.callback(lambda: client.delete(*client.keys(f"*{name}*") or ["none"]))
    on_commit = partial(on_saq.delay_on_commit, db, queue, "work", number=1)
    return Sender(on_commit, lambda: client.llen(f"saq:{name}:queued"), is_awaited=True)


async def by_procrastinate(db, stack, queue) -> Sender:
    connector = InMemoryConnector()
    app = App(connector=connector)

    @app.task(name="work")
    async def work(number: int) -> None: ...

    await stack.enter_async_context(app.open_async())
    on_commit = partial(on_procrastinate.delay_on_commit, db, work, number=1)
    return Sender(on_commit, lambda: len(connector.jobs), is_awaited=True)


SENDERS = {
    "celery": by_celery,
    "dramatiq": by_dramatiq,
    "faststream": by_faststream,
    "taskiq": by_taskiq,
    "saq": by_saq,
    "procrastinate": by_procrastinate,
}
NEEDS = {
    "celery": ["Redis"],
    "dramatiq": ["RabbitMQ"],
    "faststream": ["NATS"],
    "taskiq": ["Redis"],
    "saq": ["Redis"],
    "procrastinate": [],
}
PLAIN = ["celery", "dramatiq"]  # those that plain code sends by

by_each = pytest.mark.parametrize("sender", SENDERS, indirect=True)
pytestmark = pytest.mark.anyio


@by_each
async def test_it_is_sent_once_after_commit(db, sender):
    """Not while the transaction is open."""
    async with db.scope():
        await db.execute(STORE)
        sender.on_commit()
        assert await sender.count() == 0
    assert await sender.count() == 1


@by_each
async def test_it_is_not_sent_after_a_rollback(db, sender):
    """Of the scope, of a block in it, of a savepoint, or by request."""
    with pytest.raises(Trouble):
        async with db.scope():
            sender.on_commit()
            raise Trouble
    async with db.scope():
        sender.on_commit()
        db.doom()
    async with db.scope():
        await db.execute(STORE)
        with pytest.raises(Trouble):
            async with db.atomic():
                sender.on_commit()
                raise Trouble
        async with db.savepoint():
            sender.on_commit()
            db.set_rollback()
    assert await sender.count() == 0


@by_each
async def test_a_nested_block_sends_when_the_outermost_commits(db, sender):
    """Leaving the inner one stores nothing yet."""
    async with db.scope():
        await db.execute(STORE)
        async with db.atomic():
            sender.on_commit()
        assert await sender.count() == 0
    assert await sender.count() == 1


@by_each
async def test_a_retried_transaction_sends_once(db, sender):
    """For the attempt that won."""
    attempts = []

    async def work() -> None:
        attempts.append(1)
        await db.execute(STORE)
        sender.on_commit()
        if len(attempts) < 3:
            raise StaleDataError

    await db.run(work, attempts=3)
    assert (len(attempts), await sender.count()) == (3, 1)


@by_each
async def test_a_failing_commit_sends_nothing(db, sender):
    """It was not stored."""

    def fail() -> None:
        raise Trouble

    with pytest.raises(Trouble):
        async with db.scope():
            await db.execute(STORE)
            sender.on_commit()
            db.before_commit(fail)
    assert await sender.count() == 0


@by_each
async def test_outside_of_a_transaction_it_is_sent_at_once(db, sender):
    """There is nothing to wait for; what has to be awaited says so, and sends nothing."""
    if sender.is_awaited:
        with pytest.raises(TransactionRequired):
            sender.on_commit()
        assert await sender.count() == 0
    else:
        await asyncio.to_thread(sender.on_commit)
        assert await sender.count() == 1
    async with db.scope(atomic=False):
        sender.on_commit()
    assert await sender.count() == 2 - sender.is_awaited


@pytest.mark.parametrize("sender", PLAIN, indirect=True)
async def test_plain_code_sends_on_the_commit_of_its_own_database(db, sender):
    """`db.sync` of an AsyncDatabase, in a thread: of a `def` endpoint, of a worker."""

    def store(*, well: bool) -> None:
        with db.sync.scope(), db.sync.atomic():
            db.sync.execute(STORE)
            sender.on_commit()
            if not well:
                raise Trouble

    with pytest.raises(Trouble):
        await asyncio.to_thread(store, well=False)
    assert await sender.count() == 0
    await asyncio.to_thread(store, well=True)
    assert await sender.count() == 1
