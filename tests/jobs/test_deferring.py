"""Jobs of Procrastinate that are stored in the transaction of the work, by all drivers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.schema import SchemaManager
from sqlalchemy.engine import make_url

from dbscope import ReadOnlyViolation, TransactionRequired
from dbscope.jobs.procrastinate import in_transaction
from tests.fixtures import make_tables
from tests.support.look import Onlooker
from tests.worlds import Both, World, insert, is_postgresql, waiting

pytestmark = pytest.mark.worlds(drivers=is_postgresql, places=["scope", "request", "block"])
only_scope = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])


class Trouble(Exception):
    pass


class Queue:
    """Tasks, and the jobs of them that there are."""

    def __init__(self, look: Onlooker) -> None:
        conninfo = look.url.set(drivername="postgresql").render_as_string(False)
        self.app = App(connector=PsycopgConnector(conninfo=conninfo, json_dumps=dumps))
        self.look = look
        self.done: list[Any] = []

        @self.app.task(name="work", queue="slow")
        async def work(**kwargs: Any) -> None:
            self.done.append(kwargs)

        self.work = work

    def jobs(self, columns: str = "args") -> list[Any]:
        """Return what is stored, as a worker would see it."""
        return self.look.rows(f"SELECT {columns} FROM procrastinate_jobs ORDER BY id")

    async def work_off(self) -> None:
        """Do the jobs that there are, by a worker of Procrastinate."""
        async with self.app.open_async():
            await self.app.run_worker_async(wait=False, install_signal_handlers=False)

    def items(self) -> list[str]:
        """Return the names that are stored."""
        return [name for (name,) in self.look.rows("SELECT name FROM item ORDER BY id")]


def dumps(value: Any) -> str:
    """Return JSON as an application wants it: with something of its own."""
    return json.dumps(value, default=lambda each: f"<{each}>")


def defer(db: Both, task: Any, **kwargs: Any) -> int:
    """Store a job, by plain code or by async code."""
    deferrer = in_transaction(db.real, task)
    if not db.is_async:
        return deferrer.defer(**kwargs)
    number: int = waiting(deferrer.defer_async)(**kwargs)
    return number


@pytest.fixture
def queue(world: World, postgres_url: str) -> Iterator[Queue]:
    """A database with the tables of Procrastinate beside those of the tests."""
    make_tables(postgres_url)
    url = make_url(postgres_url)
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(False)) as connection:
        connection.execute(SchemaManager.get_schema())
    driver = make_url(world.url).drivername
    world.database = type(world.database)(url.set(drivername=driver))
    with Onlooker(url) as look:
        yield Queue(look)


def test_a_job_is_stored_with_the_work(world: World, queue: Queue) -> None:
    """Nobody sees it before COMMIT; it is one like those that `defer` stores."""
    seen: list[Any] = []

    def body(db: Both) -> None:
        insert(db, "a")
        seen.append(defer(db, queue.work, order=7))
        seen.append(queue.jobs())

    world.run(body)
    columns = "id, args, queue_name, task_name, status::text, priority, lock, scheduled_at"
    assert queue.jobs(columns) == [(seen[0], {"order": 7}, "slow", "work", "todo", 0, None, None)]
    assert (seen[1], queue.items()) == ([], ["a"])


def test_a_job_is_not_there_after_a_rollback(world: World, queue: Queue) -> None:
    """Of the whole, or of the savepoint in which it was stored."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(Trouble), db.savepoint():
            defer(db, queue.work, order=1)
            raise Trouble
        defer(db, queue.work, order=2)

    def failing(db: Both) -> None:
        defer(db, queue.work, order=3)
        raise Trouble

    def story(db: Both) -> None:
        world.inside(db, body)
        with pytest.raises(Trouble):
            world.inside(db, failing)

    world.play(story)
    assert queue.jobs() == [({"order": 2},)]


@only_scope
def test_a_worker_does_it(world: World, queue: Queue) -> None:
    """Whatever driver has stored it."""
    world.run(lambda db: defer(db, queue.work, order=7))
    asyncio.run(queue.work_off())
    assert (queue.done, queue.jobs("status::text")) == ([{"order": 7}], [("succeeded",)])


@only_scope
def test_what_is_configured_is_kept(world: World, queue: Queue) -> None:
    """Time, lock, priority, arguments; the JSON is that of the application's connector."""
    at = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    task = queue.work.configure(
        lock="l'ock", schedule_at=at, priority=-3, queue="other", task_kwargs={"a": [None, "é%:x"]}
    )
    world.run(lambda db: defer(db, task, b={"of": Trouble}))
    columns = "lock, scheduled_at, priority, queue_name, args"
    args = {"a": [None, "é%:x"], "b": {"of": f"<{Trouble}>"}}
    assert queue.jobs(columns) == [("l'ock", at, -3, "other", args)]


@only_scope
def test_many_are_stored_at_once(world: World, queue: Queue) -> None:
    """By Procrastinate's own `batch_defer`."""

    def body(db: Both) -> None:
        deferrer = in_transaction(db.real, queue.work)
        many = [{"order": number} for number in range(3)]
        if db.is_async:
            waiting(deferrer.batch_defer_async)(*many)
        else:
            deferrer.batch_defer(*many)

    world.run(body)
    assert queue.jobs() == [({"order": number},) for number in range(3)]


@only_scope
def test_a_queueing_lock_refuses_the_second(world: World, queue: Queue) -> None:
    """As everywhere; in a savepoint the rest of the transaction is kept."""
    task = queue.work.configure(queueing_lock="one")

    def body(db: Both) -> None:
        insert(db, "a")
        defer(db, task, order=1)
        with pytest.raises(AlreadyEnqueued, match="one"), db.savepoint():
            defer(db, task, order=2)

    world.run(body)
    assert (queue.jobs(), queue.items()) == ([({"order": 1},)], ["a"])


@only_scope
def test_without_a_transaction_it_is_refused(world: World, queue: Queue) -> None:
    """There is nothing whose fate it could share; and what is read-only stores nothing."""

    def story(db: Both) -> None:
        with pytest.raises(TransactionRequired), db.scope(atomic=False):
            defer(db, queue.work)
        with pytest.raises(ReadOnlyViolation), db.atomic(readonly=True):
            defer(db, queue.work)

    world.play(story)
    assert queue.jobs() == []
