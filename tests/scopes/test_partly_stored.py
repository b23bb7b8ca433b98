"""A client is not told to try again what is stored in part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from fastapi import Request

from dbscope import DatabaseUnavailable, PoolTimeout
from tests.scopes.stage import ALONE, ASYNC, INSIDE, OUTSIDE, Stage, only, work
from tests.worlds import Both

pytestmark = pytest.mark.anyio


def by_hand(stage: Stage, db: Both) -> None:
    """COMMIT in the request's own session."""
    stage.insert("first")
    db.session.commit()


def scope_inside(stage: Stage, db: Both) -> None:
    """A scope that has ended."""
    with db.scope():
        stage.insert("first")


def autocommit(stage: Stage, db: Both) -> None:
    """A scope in which each statement is committed by itself."""
    with db.scope(atomic=False):
        stage.insert("first")


def nothing(stage: Stage, db: Both) -> None:
    """What was begun is rolled back with the rest."""
    stage.insert("first")


WAYS = [nothing, by_hand, scope_inside, autocommit]
Way = Callable[[Stage, Both], None]


@only(places=(ALONE, INSIDE, OUTSIDE))
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [DatabaseUnavailable, PoolTimeout])
async def test_a_database_that_goes_away_then_is_503_without_retry(
    stage: Stage, way: Way, error: type[Exception]
) -> None:
    """RFC 9110, 10.2.3: Retry-After invites to do all of it again, which would store it twice."""

    def body() -> None:
        way(stage, stage.db)
        raise error("away")

    stage.route(body)
    seen = await stage.ask()
    stored = way is not nothing
    assert (seen.status, seen.items) == (503, ["first"] if stored else [])
    assert ("retry-after" in seen.answer.headers) is not stored
    assert ("a part of the work may be stored" in seen.answer.body.decode()) is stored


@only(*ASYNC, places=(ALONE, INSIDE))
@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_is_too_slow_then_is_told_so(stage: Stage, way: Way) -> None:
    """Nothing was stored is said where nothing was."""
    stage.remake(client_wait=0.1)

    async def endpoint(request: Request) -> None:
        def body() -> None:
            way(stage, stage.db)
            stage.insert("second")

        await work(stage, body)
        await request.body()

    async def never() -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    stage.app.add_api_route("/", endpoint, methods=["POST"])
    seen = await stage.ask(body=[b"a"], more=never)
    stored = way is not nothing
    assert (seen.status, seen.items) == (408, ["first"] if stored else [])
    told = seen.answer.body.decode()
    assert ("nothing was stored" in told) is not stored
    assert ("a part of the work may be stored" in told) is stored
