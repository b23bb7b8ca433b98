"""FastStream, in its own test brokers: which exceptions commit, and what is around what."""

from __future__ import annotations

from typing import Annotated

import pytest
from faststream import Depends, ExceptionMiddleware
from faststream.exceptions import AckMessage, NackMessage, RejectMessage, SkipMessage, StopConsume
from faststream.nats import NatsBroker, TestNatsBroker
from sqlalchemy import text

from dbscope import AsyncDatabase, ConfigurationError, ScopeMissing
from dbscope.jobs.faststream import RedeliveryMiddleware, install, message_id

pytestmark = pytest.mark.anyio


class Trouble(Exception):
    pass


@pytest.fixture
async def db(tmp_path):
    db = AsyncDatabase(f"sqlite:///{tmp_path}/jobs.db")
    async with db.scope():
        await db.execute(text("CREATE TABLE t (name TEXT)"))
    yield db
    await db.dispose()


async def names(db) -> list[str]:
    async with db.scope(readonly=True):
        return list(await db.scalars(text("SELECT name FROM t")))


async def publish(broker, handler, error) -> None:
    """Publish one message, whose handler ends by this error."""
    async with TestNatsBroker(broker):
        if error is None or issubclass(error, AckMessage | NackMessage | RejectMessage):
            await broker.publish("a", "in")
        else:
            with pytest.raises(error):
                await broker.publish("a", "in")


@pytest.mark.parametrize(
    ("error", "stored"),
    [
        (None, ["a"]),
        (AckMessage, ["a"]),
        (NackMessage, []),
        (RejectMessage, []),
        (StopConsume, []),
        (Trouble, []),
    ],
)
async def test_what_asks_for_an_acknowledgement_commits_and_nothing_else(error, stored, db):
    """A message that is gone has its work stored; one that failed, or comes again, has not."""
    broker = NatsBroker()
    install(db, broker)

    @broker.subscriber("in")
    async def handle(name: str) -> None:
        await db.execute(text("INSERT INTO t VALUES (:name)"), {"name": name})
        if error is not None:
            raise error

    await publish(broker, handle, error)
    assert await names(db) == stored


async def test_dependencies_and_plain_handlers_are_in_the_scope(db):
    """`Depends(db.get_session)` gives the session of the message, which a thread sees too."""
    broker = NatsBroker()
    install(db, broker)
    seen = []

    @broker.subscriber("in")
    async def handle(name: str, session: Annotated[object, Depends(db.get_session)]) -> None:
        seen.append(session is db.session)

    @broker.subscriber("plain")
    def plain(name: str) -> None:
        db.sync.execute(text("INSERT INTO t VALUES (:name)"), {"name": name})

    async with TestNatsBroker(broker):
        await broker.publish("a", "in")
        await broker.publish("b", "plain")
    assert seen == [True]
    assert await names(db) == ["b"]


async def test_a_handled_error_rolls_back_and_is_handled_outside_of_the_scope(db):
    """An ExceptionMiddleware that was there before sees the error when the work is undone."""
    handled = []
    errors = ExceptionMiddleware()

    @errors.add_handler(Trouble, publish=True)
    async def on_trouble(error: Trouble) -> str:
        handled.append(await names(db))
        return "sorry"

    broker = NatsBroker(middlewares=[errors])
    install(db, broker)

    @broker.subscriber("in")
    async def handle(name: str) -> None:
        await db.execute(text("INSERT INTO t VALUES (:name)"), {"name": name})
        raise Trouble

    async with TestNatsBroker(broker):
        await broker.publish("a", "in")
    assert handled == [[]]


async def test_an_exception_middleware_inside_of_the_scope_is_refused(db):
    """What it handles would be committed."""
    broker = NatsBroker()
    install(db, broker)
    broker.add_middleware(ExceptionMiddleware())

    @broker.subscriber("in")
    async def handle(name: str) -> None: ...

    async with TestNatsBroker(broker):
        with pytest.raises(ConfigurationError, match=r"Add it before `install\(db, broker\)`"):
            await broker.publish("a", "in")


async def test_a_failing_hook_does_not_have_the_message_done_again(db, caplog):
    """The work is stored: it is logged."""
    broker = NatsBroker()
    install(db, broker)

    @broker.subscriber("in")
    async def handle(name: str) -> None:
        await db.execute(text("INSERT INTO t VALUES (:name)"), {"name": name})
        db.on_commit(lambda: 1 / 0)

    async with TestNatsBroker(broker):
        await broker.publish("a", "in")
    assert await names(db) == ["a"]
    assert "A hook of the scope opened at the job handle failed" in caplog.text


async def test_a_message_has_an_id_with_the_name_of_its_handler(db):
    """Two handlers of one message have each their own; outside there is none."""
    broker = NatsBroker()
    install(db, broker)
    seen = []

    @broker.subscriber("in")
    async def handle(name: str) -> None:
        seen.append(message_id(name, any="argument"))

    async with TestNatsBroker(broker):
        await broker.publish("a", "in", headers={"message_id": "7"})
    assert seen == ["handle:7"]
    with pytest.raises(ScopeMissing, match="outside of a job"):
        message_id()


def test_the_pause_doubles_up_to_its_limit():
    """1, 2, 4, 8, 10, 10 seconds."""
    policy = RedeliveryMiddleware(delay=1, max_delay=10)
    assert [policy.delay(times) for times in range(1, 7)] == [1, 2, 4, 8, 10, 10]


async def test_a_skipped_message_rolls_back(db):
    """It is not acknowledged."""
    broker = NatsBroker()
    install(db, broker)

    @broker.subscriber("in")
    async def handle(name: str) -> None:
        await db.execute(text("INSERT INTO t VALUES (:name)"), {"name": name})
        raise SkipMessage

    async with TestNatsBroker(broker):
        await broker.publish("a", "in")
    assert await names(db) == []
