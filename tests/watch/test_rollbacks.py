"""Why work was not kept, in one line: thirteen causes, each with the line that it comes from."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from fastapi import HTTPException, Request
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from starlette.responses import JSONResponse

from dbscope.watch.records import Record
from tests.asgi import ask
from tests.scopes.stage import ALONE, Stage
from tests.watch.lines import at
from tests.worlds import DRIVERS, SYNC, Child, Item, is_postgresql, is_sqlite

HERE = [name for name in DRIVERS if is_sqlite(name) or is_postgresql(name)]
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.worlds(drivers=HERE.__contains__, places=[ALONE]),
]
LOST = "; 1 INSERT into item not stored"


class Trouble(Exception):
    """What goes wrong; what it says is nobody's business."""


async def record_of(stage: Stage, body: Callable[[], Any]) -> Record:
    """Return the record of a request with this body."""
    stage.real.watch.start()
    try:
        stage.route(body)
        await stage.ask()
        (record,) = stage.real.watch.recent()
    finally:
        stage.real.watch.stop()
    assert "secret" not in str(record)
    assert record.name == "POST /"
    return record


async def test_an_error_for_the_client_that_is_raised(stage: Stage) -> None:
    """The example of the documents."""

    def body() -> None:
        stage.insert("secret")
        raise HTTPException(409, "taken")  # raised

    record = await record_of(stage, body)
    told = f"rolled back, HTTPException 409 'taken' raised at {at('raised')}"
    assert str(record).startswith(told + LOST)
    assert (record.status, record.disagrees) == (409, False)


async def test_an_error_for_the_client_that_is_returned(stage: Stage) -> None:
    """There is no line that raises: the endpoint's is told."""

    def body() -> Any:
        stage.insert("secret")
        return JSONResponse({}, 409)

    record = await record_of(stage, body)
    assert str(record).startswith("rolled back, 409 returned by ")
    assert LOST in str(record)


async def test_an_error_that_a_handler_turns_into_a_success(stage: Stage) -> None:
    """The answer and the database disagree."""

    @stage.app.exception_handler(Trouble)
    async def handle(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({}, 200)

    def body() -> None:
        stage.insert("secret")
        raise Trouble("secret")  # handled

    record = await record_of(stage, body)
    told = f"rolled back, Trouble raised at {at('handled')}, answered 200"
    assert str(record).startswith(told + LOST)
    assert record.disagrees


async def test_an_error_that_nobody_handles(stage: Stage) -> None:
    """The server answers 500."""

    def body() -> None:
        stage.insert("secret")
        raise Trouble("secret")  # unhandled

    record = await record_of(stage, body)
    assert str(record).startswith(f"rolled back, Trouble raised at {at('unhandled')}" + LOST)
    assert record.status == 500


async def test_a_failure_that_was_swallowed(stage: Stage) -> None:
    """What has failed is told, and not only that something has."""

    def body() -> None:
        stage.insert("secret")
        with suppress(DBAPIError):
            stage.db.execute(text("SELECT nonsense FROM nowhere"))

    record = await record_of(stage, body)
    assert str(record).startswith("rolled back, a failure was swallowed: ")
    assert "Error (" in str(record)
    assert LOST in str(record)


async def test_a_constraint_that_is_looked_at_by_commit(stage: Stage) -> None:
    """It is no rollback that somebody has asked for."""

    def body() -> None:
        stage.insert_orphan()

    record = await record_of(stage, body)
    assert str(record).startswith("COMMIT failed, IntegrityError (")
    assert ", last written at " in str(record)
    assert "; 1 INSERT into child not stored" in str(record)


async def test_a_flush_at_the_end_that_fails(stage: Stage) -> None:
    """Nobody has sent it by hand, so there is no line."""

    def body() -> None:
        stage.insert("secret")
        stage.db.session.add(Item(name="secret"))

    record = await record_of(stage, body)
    assert str(record).startswith("COMMIT failed, the flush before it failed: IntegrityError (")
    assert LOST in str(record)


async def test_a_request_that_is_doomed(stage: Stage) -> None:
    """The response is kept, and says otherwise."""

    def body() -> None:
        stage.insert("secret")
        stage.real.doom()  # doomed

    record = await record_of(stage, body)
    assert str(record).startswith(
        f"rolled back, doom() called at {at('doomed')}, answered 200" + LOST
    )


async def test_a_request_that_is_to_be_rolled_back(stage: Stage) -> None:
    """Django's `set_rollback`."""

    def body() -> None:
        stage.insert("secret")
        stage.real.set_rollback(True)  # set

    record = await record_of(stage, body)
    told = f"rolled back, set_rollback(True) called at {at('set')}, answered 200"
    assert str(record).startswith(told + LOST)


@pytest.mark.worlds(drivers=lambda name: name in HERE and name not in SYNC, places=[ALONE])
async def test_a_request_that_is_cancelled(stage: Stage) -> None:
    """As when the client has gone; the line that waited is told."""
    waits = asyncio.Event()

    @stage.app.post("/")
    async def endpoint() -> None:
        await stage.real.execute(text("INSERT INTO item (name) VALUES ('secret')"))
        waits.set()
        await asyncio.sleep(60)  # cancelled

    stage.wire()
    stage.real.watch.start()
    task = asyncio.create_task(ask(stage.app, "POST", "/"))
    await waits.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    (record,) = stage.real.watch.recent()
    stage.real.watch.stop()
    assert str(record).startswith(f"rolled back, cancelled at {at('cancelled')}" + LOST)


async def test_a_deadline_that_has_passed(stage: Stage) -> None:
    """The block whose time it was is told."""

    def body() -> None:
        with stage.db.atomic(timeout=0.2):
            stage.insert("secret")
            threading.Event().wait(0.25)

    record = await record_of(stage, body)
    assert str(record).startswith("rolled back, TransactionTimeout in the block of ")


async def test_a_veto_of_the_application(stage: Stage) -> None:
    """Where status and exceptions would have kept it."""
    stage.install["commit_veto"] = lambda *signals: True

    def body() -> None:
        stage.insert("secret")

    record = await record_of(stage, body)
    told = "rolled back, the veto of the application refused the 200 returned by "
    assert str(record).startswith(told)
    assert ", answered 200" in str(record)


async def test_a_savepoint_that_was_broken(stage: Stage) -> None:
    """The failure inside is the reason, not the error that says it was swallowed."""

    def body() -> None:
        stage.insert("a")
        with stage.db.atomic(), suppress(DBAPIError):
            stage.db.execute(text("SELECT nonsense FROM nowhere"))

    record = await record_of(stage, body)
    assert str(record).startswith("rolled back, a failure was swallowed: ")
    assert LOST in str(record)


async def test_what_is_lost_with_a_savepoint_and_what_is_kept(stage: Stage) -> None:
    """The request goes on, and stores the rest."""

    def body() -> None:
        stage.insert("a")
        with suppress(Trouble), stage.db.atomic():
            stage.insert("b")
            raise Trouble("secret")  # inside

    record = await record_of(stage, body)
    lost, kept, why, *_ = str(record).removeprefix("committed; ").split("; ")
    assert lost == "1 INSERT into item not stored"
    assert kept == "1 INSERT into item stored"
    assert f"was rolled back, Trouble raised at {at('inside')}" in why


async def test_what_was_never_sent_is_told_too(stage: Stage) -> None:
    """An error before the first flush loses objects that no statement has."""

    def body() -> None:
        stage.db.session.add(Item(name="secret"))
        stage.db.session.add(Child(item_id=1))
        raise Trouble("secret")  # early

    record = await record_of(stage, body)
    told = f"rolled back, Trouble raised at {at('early')}; "
    assert str(record).startswith(told)
    assert dict(record.pending) == {"Item": 1, "Child": 1}
    assert " never sent" in str(record)
