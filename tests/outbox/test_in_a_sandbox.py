"""An outbox that is installed into an application, in the sandbox of a test: its relay rests."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from sqlalchemy import insert as sql_insert
from starlette.testclient import TestClient

from dbscope.testing import assert_no_open_transactions, assert_statements, fail_commit
from tests.scopes.stage import close
from tests.worlds import Item, World, is_postgresql

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.outbox.conftest import Box

only_scope = pytest.mark.worlds(places=["scope"])
STATEMENTS = 2  # the row, and the message
TIMES = 5


def served(world: World, box: Box) -> FastAPI:
    """Return an application that stores a row and sends a message."""
    app = FastAPI()
    world.database.install(app)
    box.real.install(app)
    numbers = count()

    def row() -> Any:
        return sql_insert(Item).values(name=str(next(numbers)))

    if world.is_async:

        @app.post("/")
        async def send() -> None:
            await world.database.execute(row())
            await box.real.send("topic", 1)
    else:

        @app.post("/")
        def send_plainly() -> None:
            world.database.execute(row())
            box.real.send("topic", 1)

    return app


@only_scope
def test_requests_are_served_and_only_the_test_relays(
    world: World, make_box: Callable[..., Box]
) -> None:
    """What counts statements and refuses a COMMIT meets those of the test's own requests."""
    box = make_box(poll=0.01)
    app, database = served(world, box), world.database
    with (
        database.sandbox(),
        TestClient(app, raise_server_exceptions=False) as client,
    ):
        for _ in range(TIMES):
            with assert_statements(database, STATEMENTS), assert_no_open_transactions(database):
                assert client.post("/").status_code == 200
            with fail_commit(database):
                assert client.post("/").status_code == 500
        assert box.messages == []
        relay: Any = box.real.relay_once
        relayed = client.portal.call(relay) if world.is_async and client.portal else relay()
        assert relayed == TIMES
    assert box.values == [1] * TIMES
    assert world.items() == []
    assert box.rows() == []
    asyncio.run(close(database))  # the sandbox has ended after the application


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_who_wants_no_notifications_takes_no_connection_for_them(
    world: World, make_box: Callable[..., Box]
) -> None:
    """`notify=False`: behind a pooler say, where LISTEN is not to be had."""
    box = make_box(notify=False, poll=0.01)
    with TestClient(served(world, box)) as client:
        assert client.post("/").status_code == 200
        assert all("LISTEN" not in each.query for each in world.look.backends())
