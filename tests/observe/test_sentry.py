"""Sentry: what its transport is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk
from fastapi import HTTPException
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from sentry_sdk.transport import Transport
from sqlalchemy import text

from dbscope import Database, TransactionOutcomeUnknown
from dbscope.observe import sentry
from dbscope.testing import lose_commit_answer
from tests.asgi import ask
from tests.scopes.stage import ALONE, Stage
from tests.worlds import Both, World, insert, needs_late_check


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        """Keep it."""
        if (event := envelope.get_event()) is not None:
            self.events.append(event)


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Return the transport of an SDK that is started for one test."""
    transport = Kept()
    with sentry_sdk.isolation_scope() as own, sentry_sdk.new_scope():
        own.clear()  # it begins with what the one around it has been told by other tests
        sentry_sdk.init(
            "http://key@127.0.0.1/1",
            transport=transport,
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            max_request_body_size="never",
        )
        yield transport
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


def told(event: Any) -> list[str]:
    """Return what our breadcrumbs say."""
    crumbs = event["breadcrumbs"]["values"]
    return [each["message"] for each in crumbs if each["category"] == "dbscope"]


async def failed(stage: Stage, kept: Kept, body: Callable[[], Any]) -> Any:
    """Return what Sentry is told of a request that fails."""
    stage.route(body, "/things/{id}")
    stage.wire()
    remove = sentry.install(stage.real)
    with sentry_sdk.isolation_scope() as own:  # the loop's own is that of all tests
        own.clear()
        answer = await ask(SentryAsgiMiddleware(stage.app), "POST", "/things/1")
    assert answer.error is not None
    remove()
    (event,) = kept.events
    return event


@pytest.mark.anyio
@pytest.mark.worlds(places=[ALONE])
async def test_an_error_is_sent_with_what_became_of_the_work(stage: Stage, kept: Kept) -> None:
    """It leaves the application when the transaction has ended."""

    def body() -> None:
        stage.insert("secret")
        raise KeyError

    event = await failed(stage, kept, body)
    assert event["tags"] == {
        "dbscope.outcome": "rolled_back",
        "dbscope.route": "POST /things/{id}",
        "dbscope.scope": "request",
    }
    begun, ended = told(event)
    assert begun == "transaction begun"
    assert ended.startswith("rolled back, KeyError raised at tests/observe/test_sentry.py:")
    assert "secret" not in str(event["breadcrumbs"])


@needs_late_check
@pytest.mark.anyio
@pytest.mark.worlds(places=[ALONE])
async def test_a_commit_that_fails_is_told(stage: Stage, kept: Kept) -> None:
    """The error is that of COMMIT, and so is the outcome."""
    event = await failed(stage, kept, stage.insert_orphan)
    assert event["tags"]["dbscope.outcome"] == "commit_failed"
    assert told(event)[-1].startswith("commit failed, IntegrityError (")


@pytest.mark.worlds(places=["scope"])
def test_what_is_sent_before_the_end_says_so(world: World, kept: Kept) -> None:
    """Nobody knows yet, and so nothing is said of it."""
    remove = sentry.install(world.database)

    def body(db: Both) -> None:
        insert(db, "a")
        sentry_sdk.capture_message("now")

    world.run(body)
    sentry_sdk.capture_message("then")
    remove()
    now, then = kept.events
    assert now["tags"]["dbscope.outcome"] == "open"
    assert then["tags"]["dbscope.outcome"] == "committed"
    assert told(then) == ["transaction begun", "committed"]


@pytest.mark.worlds(places=["scope"])
def test_an_outcome_that_nobody_knows_is_told(world: World, kept: Kept) -> None:
    """It is neither stored nor not."""
    remove = sentry.install(world.database)

    def story(db: Both) -> None:
        lost = lose_commit_answer(world.database)
        with lost, pytest.raises(TransactionOutcomeUnknown), db.scope():
            insert(db, "a")

    world.play(story)
    sentry_sdk.capture_message("then")
    remove()
    assert kept.events[0]["tags"]["dbscope.outcome"] == "unknown"
    assert told(kept.events[0])[-1] == "unknown, the answer to COMMIT was lost"


def test_a_second_database_has_tags_of_its_own(kept: Kept) -> None:
    """One that was committed beside one that was not is seen."""
    databases = [Database("sqlite://"), Database("sqlite://", name="stock")]
    remove = sentry.install(*databases)
    with databases[0].scope():
        databases[0].scalar(text("SELECT 1"))
    with pytest.raises(HTTPException), databases[1].scope():
        databases[1].scalar(text("SELECT 1"))
        raise HTTPException(409)
    sentry_sdk.capture_message("then")
    remove()
    for database in databases:
        database.dispose()
    tags = kept.events[0]["tags"]
    assert tags["dbscope.outcome"] == "committed"
    assert tags["dbscope.outcome.stock"] == "rolled_back"
