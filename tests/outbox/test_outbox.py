"""The outbox: a message is there if its transaction is, and is relayed at least once, in order."""

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import insert as sql_insert

from dbscope import ConfigurationError, ScopeMissing, TransactionRequired
from dbscope.outbox import AsyncOutbox, Outbox, metadata, outbox_table
from dbscope.outbox.faststream import publisher
from dbscope.outbox.table import TABLE
from tests.outbox.conftest import Box
from tests.support.look import until
from tests.worlds import SYNC, Base, Both, World, insert, is_postgresql, is_sqlite, waiting

only_scope = pytest.mark.worlds(places=["scope"])
on_servers = pytest.mark.worlds(drivers=lambda each: not is_sqlite(each), places=["scope"])
on_sqlite = pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
on_postgresql = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])


TABLE_TIME = datetime(2026, 1, 1)  # noqa: DTZ001  (as the table has it)
RAW = """INSERT INTO dbscope_outbox
 (uid, topic, body, content_type, headers, created_at, available_at, attempts)
 VALUES ('1', 't', '1', 'application/json', '{}', '2026-01-01', '2026-01-01', 0)"""


class Trouble(Exception):
    """What goes wrong."""


def test_a_message_is_stored_with_the_work(world: World, box: Box) -> None:
    """Nobody else sees it before COMMIT."""
    seen: list[Any] = []

    def body(db: Both) -> None:
        insert(db, "a")
        box.send({"id": 1})
        seen.append(box.rows())

    world.run(body)
    assert seen == [[]]
    assert len(box.rows()) == 1
    assert box.messages == []


@pytest.mark.parametrize("how", ["exception", "set_rollback", "doom", "savepoint"])
def test_what_is_rolled_back_sends_nothing(world: World, box: Box, how: str) -> None:
    """However that comes."""

    def body(db: Both) -> None:
        if how == "savepoint":
            insert(db, "a")
            with pytest.raises(Trouble), db.atomic():
                box.send(1)
                raise Trouble
            return
        box.send(1)
        if how == "exception":
            raise Trouble
        db.doom() if how == "doom" else db.set_rollback(True)

    if how == "exception":
        with pytest.raises((Trouble, ExceptionGroup)):
            world.run(body)
    else:
        world.run(body)
    assert box.rows() == []


def play(world: World, box: Box, *stories: Callable[[Both], Any]) -> None:
    """Run stories one after the other, each in a scope, and relay what they have sent."""

    def all_of_it(db: Both) -> None:
        for story in stories:
            with db.scope():
                story(db)
        box.flush()

    world.play(all_of_it)


@only_scope
def test_what_is_committed_is_published_once_and_forgotten(world: World, box: Box) -> None:
    """Values, bytes, headers and ids come as they were sent."""
    ids: list[str] = []

    def story(db: Both) -> None:
        ids.append(box.send({"ä": [1, None]}, key="k", headers={"trace": "1"}))
        ids.append(box.send(b"\x00\xff"))

    play(world, box, story)
    assert box.values == [{"ä": [1, None]}, b"\x00\xff"]
    assert [message.id for message in box.messages] == ids
    first = box.messages[0]
    assert (first.topic, first.key, first.headers) == ("topic", "k", {"trace": "1"})
    assert first.attempts == 0
    assert box.rows() == []


@only_scope
def test_messages_come_in_their_order(world: World, make_box: Callable[..., Box]) -> None:
    """Those of one key, whatever the size of a batch."""
    box = make_box(batch=3)

    def story(db: Both) -> None:
        for number in range(20):
            box.send(number, key=f"k{number % 2}" if number % 3 else None)

    play(world, box, story)
    for key in ("k0", "k1", None):
        values = [message.value for message in box.messages if message.key == key]
        assert values == sorted(values)
    assert sorted(box.values) == list(range(20))


@only_scope
def test_what_fails_is_tried_again_and_keeps_its_key_waiting(world: World, box: Box) -> None:
    """Others pass; how often it failed, and why, is stored."""
    box.refuses = lambda message: message.value == "bad" and message.attempts < 2

    def story(db: Both) -> None:
        box.send("bad", key="k")
        box.send("behind", key="k")
        box.send("other", key="o")

    def first_round(db: Both) -> None:
        with db.scope():
            story(db)
        box.relay_once()

    world.play(first_round)
    assert box.values == ["other"]
    assert box.rows() == [(1, "ConnectionError: not now: bad"), (0, None)]
    world.play(lambda db: box.flush())
    assert box.values == ["other", "bad", "behind"]
    assert box.pauses == [1, 2]


@only_scope
def test_a_publisher_is_no_part_of_the_relays_work(world: World, box: Box) -> None:
    """What it does with the database by mistake is its failure, and undoes nothing of the relay."""
    publish = box.publish

    def use(message: Any) -> None:
        if message.value == "bad":
            world.database.set_rollback(True)
        publish(message)

    box.publish = use  # type: ignore[method-assign]

    def story(db: Both) -> None:
        with db.scope():
            for value in ("a", "bad", "b"):
                box.send(value, key=value)
        box.relay_once()

    world.play(story)
    assert box.values == ["a", "b"]
    ((attempts, why),) = box.rows()
    assert attempts == 1
    assert "TransactionRequired" in str(why)


@pytest.mark.worlds(drivers=lambda driver: driver not in SYNC, places=["scope"])
def test_a_publisher_that_is_cancelled_by_itself_has_failed(world: World, box: Box) -> None:
    """A client whose connection ends cancels what waits for it; the relay goes on."""

    def cancelled(message: Any) -> bool:
        if message.value == "bad":
            raise asyncio.CancelledError
        return False

    box.refuses = cancelled

    def story(db: Both) -> None:
        with db.scope():
            for value in ("a", "bad", "b"):
                box.send(value, key=value)
        box.relay_once()

    world.play(story)
    assert box.values == ["a", "b"]
    assert [attempts for attempts, _ in box.rows()] == [1]


@only_scope
def test_what_is_not_due_yet_is_not_tried(world: World, make_box: Callable[..., Box]) -> None:
    """Nor what is behind it."""
    box = make_box(backoff=lambda failed: 3600.0)
    box.refuses = lambda message: message.value == "bad"

    def story(db: Both) -> None:
        box.send("bad", key="k")
        box.send("behind", key="k")

    play(world, box, story)
    assert box.values == []
    assert box.rows("attempts") == [(1,), (0,)]


@only_scope
def test_what_fails_too_often_is_dead_and_may_be_revived(
    world: World, make_box: Callable[..., Box]
) -> None:
    """It is kept, shown with its last error, and in nobody's way."""
    box = make_box(attempts=3)
    refused = [True]
    box.refuses = lambda message: message.value == "bad" and refused[0]

    def story(db: Both) -> None:
        with db.scope():
            box.send("bad", key="k")
            box.send("behind", key="k")
        box.flush()
        ((message, why),) = box.dead()
        assert (message.value, message.attempts) == ("bad", 3)
        assert why == "ConnectionError: not now: bad"
        assert box.waiting() == 0
        assert box.values == ["behind"]
        refused[0] = False
        assert box.revive() == 1
        box.flush()
        assert box.dead() == []

    world.play(story)
    assert box.values == ["behind", "bad"]


@only_scope
def test_a_relay_publishes_what_comes_until_it_is_stopped(world: World, box: Box) -> None:
    """It hears of each commit in its process."""
    done = threading.Event()

    def story(db: Both) -> None:
        with box.relaying():
            for number in range(5):
                with db.scope():
                    box.send(number, key="k")
            sleep = waiting(asyncio.sleep) if world.is_async else done.wait
            for _ in range(2000):
                if len(box.messages) == 5:
                    break
                sleep(0.01)

    world.play(story)
    assert box.values == [0, 1, 2, 3, 4]
    assert box.rows() == []


@on_postgresql
def test_postgresql_tells_of_what_other_processes_commit(
    world: World, make_box: Callable[..., Box]
) -> None:
    """The relay looks by itself only every hour here."""
    box = make_box(poll=3600.0)
    done = threading.Event()

    def is_listening() -> bool:
        listens = """('LISTEN dbscope_outbox', 'LISTEN "dbscope_outbox"')"""  # psycopg, asyncpg
        sql = f"SELECT count(*) FROM pg_stat_activity WHERE query IN {listens}"
        return bool(world.look.scalar(sql))

    def story(db: Both) -> None:
        sleep = waiting(asyncio.sleep) if world.is_async else done.wait
        with box.relaying():
            while not is_listening():
                sleep(0.01)
            world.look.execute(RAW)
            world.look.execute("SELECT pg_notify('dbscope_outbox', '')")
            while not box.messages:
                sleep(0.01)

    world.play(story)
    assert box.values == [1]


@on_servers
def test_two_relays_share_the_work_and_keep_the_order(
    world: World, make_box: Callable[..., Box]
) -> None:
    """Who has a key's first message has the key."""
    boxes = [make_box(batch=4), make_box(batch=4)]
    published: list[tuple[str | None, Any]] = []
    for box in boxes:
        box.publish = lambda m: published.append((m.key, m.value))  # type: ignore[method-assign]

    def story(db: Both) -> None:
        with db.scope():
            for number in range(40):
                boxes[0].send(number, key=f"k{number % 4}" if number % 5 else None)
        world.at_once(*(box.flush for box in boxes))
        boxes[0].flush()

    world.play(story)
    assert sorted(value for _, value in published) == list(range(40))
    for key in ("k0", "k1", "k2", "k3"):
        values = [value for of, value in published if of == key]
        assert values == sorted(values)


@on_servers
def test_senders_do_not_wait_for_a_relay_that_is_publishing(
    world: World, make_box: Callable[..., Box]
) -> None:
    """It holds its own messages only, and no gap that new ones come into."""
    box = make_box()
    sent: list[int] = []

    def story(db: Both) -> None:
        def publish(message: Any) -> None:
            if message.value == 0:
                world.look.execute(RAW)
                sent.append(1)

        box.publish = publish  # type: ignore[method-assign]
        with db.scope():
            box.send(0)
        box.flush()

    world.play(story)
    assert sent == [1]


@on_sqlite
def test_on_sqlite_there_is_one_relay_and_nobody_waits_for_it(
    world: World, make_box: Callable[..., Box]
) -> None:
    """A second one has nothing to do; others write while a message is published."""
    box, other = make_box(), make_box()
    seen: list[Any] = []

    def publish(message: Any) -> None:
        world.look.execute("INSERT INTO item (name) VALUES ('written meanwhile')")
        seen.append(message.value)

    box.publish = publish  # type: ignore[method-assign]
    assert box.real._alone.take()
    try:
        world.play(lambda db: seen.append(other.relay_once()))
    finally:
        box.real._alone.give_back()

    def story(db: Both) -> None:
        with db.scope():
            box.send("a")
        box.flush()

    world.play(story)
    assert seen == [0, "a"]
    assert world.items() == ["written meanwhile"]


@only_scope
def test_a_relay_outlives_a_database_that_is_away(world: World, box: Box) -> None:
    """It tries again later."""
    done = threading.Event()

    def story(db: Both) -> None:
        sleep = waiting(asyncio.sleep) if world.is_async else done.wait
        world.look.execute("ALTER TABLE dbscope_outbox RENAME TO elsewhere")
        box.real.poll = 0.01
        with box.relaying():
            sleep(0.1)
            world.look.execute("ALTER TABLE elsewhere RENAME TO dbscope_outbox")
            with db.scope():
                box.send(1)
            for _ in range(2000):
                if box.messages:
                    break
                sleep(0.01)

    world.play(story)
    assert box.values == [1]


@only_scope
def test_a_message_needs_a_transaction(world: World, box: Box) -> None:
    """In autocommit it would be stored apart from the work."""

    def story(db: Both) -> None:
        with pytest.raises(ScopeMissing):
            box.send(1)
        with db.scope(atomic=False):
            with pytest.raises(TransactionRequired, match="which autocommits"):
                box.send(1)
            with db.atomic():
                box.send(2)
        box.flush()

    world.play(story)
    assert box.values == [2]


@only_scope
def test_what_cannot_be_sent_is_refused(world: World, box: Box) -> None:
    """Before anything is stored."""

    def body(db: Both) -> None:
        for value in (object(), {1, 2}):
            with pytest.raises(TypeError, match="what JSON can hold"):
                box.send(value)
        for key in ("", "k" * 256, 1):
            with pytest.raises(TypeError, match="key must be a text"):
                box.send(1, key=key)
        with pytest.raises(TypeError, match="topic must be a text"):
            waiting(box.real.send)("", 1)

    world.run(body)
    assert box.rows() == []


@only_scope
def test_the_table_may_be_in_the_applications_metadata(world: World, box: Box) -> None:
    """With the same columns."""
    own = type(Base.metadata)()
    assert outbox_table(own) is outbox_table(own)
    assert own.tables.keys() == metadata.tables.keys()

    def story(db: Both) -> None:
        db.ensure_schema(own)
        with db.scope():
            db.execute(
                sql_insert(TABLE).values(
                    uid="1",
                    topic="t",
                    body=b"1",
                    content_type="application/json",
                    headers={},
                    created_at=TABLE_TIME,
                    available_at=TABLE_TIME,
                    attempts=0,
                )
            )
        box.flush()

    world.play(story)
    assert box.values == [1]


@on_sqlite
def test_an_application_relays_while_it_runs(world: World, box: Box) -> None:
    """From its start to its end, when nothing is left open."""
    from starlette.testclient import TestClient

    app = FastAPI()
    world.database.install(app)
    box.real.install(app)
    if world.is_async:

        @app.post("/")
        async def send() -> None:
            await box.real.send("topic", 1)
    else:

        @app.post("/")
        def send_plainly() -> None:
            box.real.send("topic", 1)

    with TestClient(app) as client:
        assert client.post("/").status_code == 200
        assert until(lambda: box.values == [1])
        assert until(lambda: box.rows() == [])


@on_sqlite
def test_plain_publishers_are_called_in_a_thread(world: World, box: Box) -> None:
    """They may block; what they return to be awaited is awaited."""
    threads: list[int] = []

    async def later() -> None:
        threads.append(0)

    def publish(message: Any) -> Any:
        threads.append(threading.get_ident())
        return later() if world.is_async else None

    kind: Any = AsyncOutbox if world.is_async else Outbox
    box.real = kind(world.database, publish)

    def story(db: Both) -> None:
        with db.scope():
            box.send(1)
        box.flush()

    world.play(story)
    assert (threads[0] == threading.get_ident()) is not world.is_async
    assert len(threads) == 1 + world.is_async


def test_other_brokers_are_refused() -> None:
    """In one sentence, which says what to do."""
    with pytest.raises(ConfigurationError, match="is no broker of FastStream for nats, rabbit"):
        publisher(object())
    with pytest.raises(TypeError, match="publish must be a function"):
        Outbox(None, None)  # type: ignore[arg-type]
