"""The other systems, in their own test brokers: which exceptions commit, and who is in a scope."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Annotated

import dramatiq
import pytest
import taskiq
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from celery import Celery
from celery.exceptions import Ignore, Reject, Retry
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import AsyncIO
from procrastinate import App
from procrastinate.exceptions import JobAborted
from procrastinate.testing import InMemoryConnector
from saq import CronJob, Job, Queue
from sqlalchemy import exc, text
from taskiq import InMemoryBroker, TaskiqDepends
from taskiq.exceptions import NoResultError, TaskRejectedError
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from dbscope import AsyncDatabase, ConfigurationError, Database, ScopeMissing
from dbscope.jobs import celery as on_celery
from dbscope.jobs import dramatiq as on_dramatiq
from dbscope.jobs import procrastinate as on_procrastinate
from dbscope.jobs import saq as on_saq
from dbscope.jobs import taskiq as on_taskiq
from tests.support.look import Onlooker

STORE = text("INSERT INTO t VALUES (:name)")


class Trouble(Exception):
    pass


@pytest.fixture
def url(tmp_path) -> str:
    url = f"sqlite:///{tmp_path}/jobs.db"
    with Onlooker(url) as look:
        look.execute("CREATE TABLE t (name TEXT UNIQUE)")
    return url


@pytest.fixture
def names(url):
    """Tell what is stored."""

    def names() -> list[str]:
        with Onlooker(url) as look:
            return [name for (name,) in look.rows("SELECT name FROM t ORDER BY name")]

    return names


@pytest.fixture
def db(url):
    db = AsyncDatabase(url)
    yield db
    asyncio.run(db.dispose())


@pytest.fixture
def plain_db(url):
    db = Database(url)
    yield db
    db.dispose()


# -- Celery ----------------------------------------------------------------------------------------


@pytest.fixture
def app(plain_db):
    with Celery(set_as_current=False, broker="memory://", backend="cache+memory://") as app:
        on_celery.install(plain_db, app)
        yield app


@pytest.mark.parametrize(
    ("error", "stored"),
    [(None, ["a"]), (Ignore(), ["a"]), (Reject("no"), []), (Retry(), []), (Trouble(), [])],
)
def test_celery_commits_what_is_acknowledged(error, stored, app, plain_db, names):
    """Of `Ignore` nothing more comes, so its work is stored."""

    @app.task(shared=False)
    def work() -> None:
        plain_db.execute(STORE, {"name": "a"})
        if error is not None:
            raise error

    work.apply()
    assert names() == stored


def test_a_task_of_celery_that_fails_at_commit_fails_with_that_error(app, plain_db):
    """Not a success, and not an error of another type."""

    @app.task(shared=False)
    def work() -> None:
        plain_db.before_commit(lambda: plain_db.execute(STORE, {"name": "a"}))
        plain_db.execute(STORE, {"name": "a"})

    assert isinstance(work.apply().result, exc.IntegrityError)


def test_celerys_own_retries_see_a_failing_commit(app, plain_db, names):
    """The scope is inside of `autoretry_for`, and each run has one of its own."""
    runs = []

    @app.task(
        shared=False, autoretry_for=(exc.IntegrityError,), max_retries=2, default_retry_delay=0
    )
    def work() -> None:
        runs.append(plain_db.session)
        plain_db.execute(STORE, {"name": "a"})
        if len(runs) < 3:
            plain_db.before_commit(lambda: plain_db.execute(STORE, {"name": "a"}))

    work.apply()
    assert len(set(map(id, runs))) == 3
    assert names() == ["a"]


def test_a_bound_task_and_a_class_are_in_a_scope_too(app, plain_db, names):
    """`bind=True` gives the task itself; a class has a `run`."""

    @app.task(shared=False, bind=True)
    def work(self, name: str) -> None:
        plain_db.execute(STORE, {"name": f"{name}{self.request.retries}"})

    class Work(app.Task):
        name = "work"

        def run(self, name: str) -> None:
            plain_db.execute(STORE, {"name": name})

    work.apply(["a"])
    app.register_task(Work()).apply(["b"])
    assert names() == ["a0", "b"]


def test_a_task_that_is_called_as_a_function_is_in_the_scope_of_its_caller(app, plain_db, names):
    """It is a function then, and its caller decides."""

    @app.task(shared=False)
    def work() -> None:
        plain_db.execute(STORE, {"name": "a"})

    with pytest.raises(ScopeMissing):
        work()
    with plain_db.scope():
        work()
        plain_db.set_rollback()
    assert names() == []


def test_a_task_of_celery_knows_its_message(app):
    """It is that of the task, the same at each delivery and at each retry."""
    seen = []

    @app.task(shared=False, name="work")
    def work() -> None:
        seen.append(on_celery.message_id())

    work.apply(task_id="7")
    assert seen == ["work:7"]


def test_celery_acknowledges_late_unless_a_task_says_otherwise(app):
    """Without it a killed worker has lost what it was at."""

    @app.task(shared=False)
    def work() -> None: ...

    @app.task(shared=False, acks_late=False)
    def early() -> None: ...

    assert (work.acks_late, work.reject_on_worker_lost) == (True, True)
    assert not early.acks_late


def test_an_application_that_has_its_tasks_is_refused(plain_db):
    """They would have no scope."""
    with Celery(set_as_current=False) as app:
        app.finalize()
        with pytest.raises(ConfigurationError, match="right after the application is made"):
            on_celery.install(plain_db, app)


# -- Taskiq ----------------------------------------------------------------------------------------


@pytest.fixture
async def broker(db):
    broker = InMemoryBroker(await_inplace=True)
    on_taskiq.install(db, broker)
    await broker.startup()
    yield broker
    await broker.shutdown()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "stored"),
    [(None, ["a"]), (NoResultError, ["a"]), (TaskRejectedError, []), (Trouble, [])],
)
async def test_taskiq_commits_what_is_acknowledged(error, stored, broker, db, names):
    """Who wants no result wants the work."""

    @broker.task
    async def work() -> None:
        await db.execute(STORE, {"name": "a"})
        if error is not None:
            raise error

    await work.kiq()
    assert names() == stored


class LaterBroker(InMemoryBroker):
    """It keeps what a task sends, and does the first one."""

    def __init__(self) -> None:
        super().__init__(await_inplace=True)
        self.kept: list[object] = []

    async def kick(self, message) -> None:
        self.kept.append(message)
        if len(self.kept) == 1:
            await super().kick(message)


@pytest.mark.anyio
async def test_a_task_that_is_sent_once_more_rolls_back(db, names):
    """`context.requeue()` ends by the exception that asks for no result, too."""
    broker = LaterBroker()
    on_taskiq.install(db, broker)

    @broker.task
    async def work(context: Annotated[taskiq.Context, TaskiqDepends()]) -> None:
        await db.execute(STORE, {"name": "a"})
        await context.requeue()

    await work.kiq()
    assert (len(broker.kept), names()) == (2, [])


@pytest.mark.anyio
async def test_dependencies_of_a_task_are_in_its_scope(broker, db):
    """They are resolved before it is called."""
    seen = []

    @broker.task
    async def work(session: object = TaskiqDepends(db.get_session)) -> None:
        seen.append(session is db.session)

    await work.kiq()
    assert seen == [True]


@pytest.mark.anyio
async def test_a_dependency_that_fails_ends_the_scope(broker, db, names):
    """What dependencies before it have done is rolled back."""

    async def store() -> None:
        await db.execute(STORE, {"name": "a"})

    async def fail() -> None:
        raise Trouble

    @broker.task
    async def work(
        stored: None = TaskiqDepends(store), failed: None = TaskiqDepends(fail)
    ) -> None: ...

    result = await (await work.kiq()).wait_result()
    assert isinstance(result.error, Trouble)
    assert names() == []
    assert db.engine.pool.checkedout() == 0


@pytest.mark.anyio
async def test_a_plain_task_of_taskiq_is_in_the_scope(broker, db, names):
    """Its thread has the same one."""

    @broker.task
    def work() -> str:
        db.sync.execute(STORE, {"name": "a"})
        return on_taskiq.message_id()

    task = await work.kiq()
    result = await task.wait_result()
    assert result.return_value.endswith(f"work:{task.task_id}")
    assert names() == ["a"]


@pytest.mark.anyio
async def test_a_task_of_taskiq_that_fails_at_commit_fails_with_that_error(broker, db):
    """`is_err`, with its type."""

    @broker.task
    async def work() -> None:
        await db.execute(STORE, {"name": "a"})

        async def again() -> None:
            await db.execute(STORE, {"name": "a"})

        db.before_commit(again)

    result = await (await work.kiq()).wait_result()
    assert isinstance(result.error, exc.IntegrityError)


def test_brokers_of_redis_get_what_keeps_their_messages(db, caplog):
    """A limit for the lock of the stream; a word about the list, which keeps nothing."""
    stream = RedisStreamBroker("redis://127.0.0.1")
    on_taskiq.install(db, stream)
    assert stream.unacknowledged_lock_timeout == on_taskiq.LOCK_TIMEOUT
    set_before = RedisStreamBroker("redis://127.0.0.1", unacknowledged_lock_timeout=5)
    on_taskiq.install(db, set_before)
    assert set_before.unacknowledged_lock_timeout == 5
    assert caplog.text == ""
    on_taskiq.install(db, ListQueueBroker("redis://127.0.0.1"))
    assert "Use RedisStreamBroker" in caplog.text


# -- Dramatiq --------------------------------------------------------------------------------------


@pytest.fixture
def stub(db, plain_db):
    broker = StubBroker()
    broker.add_middleware(AsyncIO())
    on_dramatiq.install(db, broker)
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
    worker.start()
    yield broker
    worker.stop()
    broker.close()


def finish(broker) -> None:
    """Wait until the messages are done."""
    broker.join("default", timeout=20_000, fail_fast=False)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "end_by", [(None, ["a"]), (dramatiq.errors.Retry("later", delay=0), []), (Trouble(), [])]
)
def test_dramatiq_commits_what_is_acknowledged(is_async, end_by, stub, db, names):
    """Of a plain actor, and of one that is async."""
    error, stored = end_by

    def end() -> None:
        if error is not None:
            raise error

    if is_async:

        async def work() -> None:
            await db.execute(STORE, {"name": "a"})
            end()
    else:

        def work() -> None:
            db.sync.execute(STORE, {"name": "a"})
            end()

    dramatiq.actor(work, broker=stub, max_retries=0).send()
    finish(stub)
    assert names() == stored


def test_an_actor_that_another_one_calls_is_in_its_scope(stub, db, names):
    """It is a function then."""
    seen = []

    @dramatiq.actor(broker=stub, max_retries=0)
    def inner() -> None:
        seen.append((db.sync.session, on_dramatiq.message_id()))

    @dramatiq.actor(broker=stub, max_retries=0)
    def outer() -> None:
        seen.append((db.sync.session, on_dramatiq.message_id()))
        inner()

    message = outer.send()
    finish(stub)
    assert seen[0] == seen[1]
    assert seen[0][1] == f"outer:{message.message_id}"


def test_actors_that_were_there_before_are_in_a_scope_too(db, names):
    """The middleware may come later."""
    broker = StubBroker()

    @dramatiq.actor(broker=broker)
    def work() -> None:
        db.sync.execute(STORE, {"name": "a"})

    on_dramatiq.install(db, broker)
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
    worker.start()
    work.send()
    finish(broker)
    worker.stop()
    assert names() == ["a"]


# -- SAQ -------------------------------------------------------------------------------------------


async def settings_of(db, **settings) -> dict:
    """Return the settings of a worker, installed."""
    settings = {"queue": Queue.from_url("redis://127.0.0.1"), **settings}
    on_saq.install(db, settings)
    return settings


@pytest.mark.anyio
async def test_the_functions_of_saq_are_in_a_scope(db, names):
    """Async ones and plain ones, with a name or without, and those of cron jobs."""

    async def work(ctx, *, name: str) -> str:
        await db.execute(STORE, {"name": name})
        return on_saq.message_id()

    def plain(ctx, *, name: str) -> None:
        db.sync.execute(STORE, {"name": name})

    settings = await settings_of(
        db, functions=[work, ("other", plain)], cron_jobs=[CronJob(work, "* * * * *")]
    )
    first, (name, second) = settings["functions"]
    ctx = {"job": SimpleNamespace(id="7")}
    told = await first(ctx, name="a")
    await asyncio.to_thread(second, ctx, name="b")
    await settings["cron_jobs"][0].function(ctx, name="c")
    assert (told, name, first.__qualname__) == (
        f"{work.__qualname__}:7",
        "other",
        work.__qualname__,
    )
    assert names() == ["a", "b", "c"]


@pytest.mark.anyio
async def test_a_function_of_saq_that_fails_rolls_back(db, names):
    """SAQ tries it again, or calls it failed."""

    async def work(ctx) -> None:
        await db.execute(STORE, {"name": "a"})
        raise Trouble

    settings = await settings_of(db, functions=[work])
    with pytest.raises(Trouble):
        await settings["functions"][0]({"job": SimpleNamespace(id="7")})
    assert names() == []


@pytest.mark.anyio
async def test_a_job_of_saq_is_tried_again_unless_it_says_how_often(db):
    """By default SAQ tries it once, so that what a killed worker was at is lost."""
    settings = await settings_of(db, functions=[])
    jobs = [Job("work"), Job("work", retries=2)]
    for job in jobs:
        for before in settings["queue"]._before_enqueues.values():
            await before(job)
    assert [job.retries for job in jobs] == [3, 2]
    assert settings["timers"] == {"sweep": on_saq.SWEEP}


# -- Procrastinate ---------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(("error", "stored"), [(None, ["a", "b"]), (Trouble, []), (JobAborted, [])])
async def test_procrastinate_commits_what_succeeded(error, stored, db, names):
    """Async tasks and plain ones."""
    app = App(connector=InMemoryConnector())
    on_procrastinate.install(db, app)
    seen = []

    def end() -> None:
        seen.append(on_procrastinate.message_id())
        if error is not None:
            raise error

    @app.task(name="work")
    async def work() -> None:
        await db.execute(STORE, {"name": "a"})
        end()

    @app.task(name="plain")
    def plain() -> None:
        db.sync.execute(STORE, {"name": "b"})
        end()

    async with app.open_async():
        first, second = await work.defer_async(), await plain.defer_async()
        await app.run_worker_async(wait=False)
    assert names() == stored
    assert sorted(seen) == [f"plain:{second}", f"work:{first}"]


# -- APScheduler -----------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(("well", "stored"), [(True, ["a"]), (False, [])])
async def test_apscheduler_is_told_of_a_failing_commit(well, stored, db, names):
    """By `@db.scope`, as by any decorator that opens a scope for each call."""
    ended = asyncio.Queue()
    scheduler = AsyncIOScheduler()
    scheduler.add_listener(ended.put_nowait, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)

    def fail() -> None:
        raise Trouble

    @scheduler.scheduled_job("date")
    @db.scope
    async def work() -> None:
        await db.execute(STORE, {"name": "a"})
        if not well:
            db.before_commit(fail)

    scheduler.start()
    event = await ended.get()
    scheduler.shutdown()
    assert (event.exception is None, names()) == (well, stored)


# -- all -------------------------------------------------------------------------------------------


def test_a_decorator_of_ours_above_that_of_a_system_is_told_to_be_swapped(db, plain_db):
    """The system has the function without it, so that jobs would run outside."""
    from faststream.nats import NatsBroker

    def work() -> None: ...

    async def async_work() -> None: ...

    with Celery(set_as_current=False) as app:
        made = [
            (plain_db, app.task(shared=False)(work)),
            (plain_db, app.task(shared=False, base=app.Task, name="b")(work)),
            (plain_db, dramatiq.actor(work, broker=StubBroker())),
            (db, InMemoryBroker().task(async_work)),
            (db, NatsBroker().subscriber("in")(async_work)),
            (db, App(connector=InMemoryConnector()).task(async_work)),
        ]
        for database, task in made:
            for decorate in (database.scope, database.atomic, database.atomic(retry=1)):
                with pytest.raises(ConfigurationError, match="Swap the two lines"):
                    decorate(task)
