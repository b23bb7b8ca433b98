"""The truth table again, for endpoints that send nothing themselves: they add, change, delete.

What the client is told, and what another one finds when `http.response.start` passes.
"""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from dbscope import Rollback
from tests.first_acts import ACTS, UNTOUCHED, Act, fail, found, prepare
from tests.scopes.stage import Stage, Trouble, handle, handle_conflict

pytestmark = pytest.mark.anyio


async def ask_each(stage: Stage, end: Callable[[], Any], status: int) -> dict[Act, list[str]]:
    """Do each act in a request of its own that ends in this way; return what was found then."""
    prepare(stage.world.look)
    seen: dict[Act, list[str]] = {}
    for act in ACTS:

        def body(act: Act = act) -> Any:
            act(stage.db, act.__name__)
            return end()

        stage.route(body, f"/{act.__name__}")
        answer = await stage.ask(path=f"/{act.__name__}")
        assert (answer.status, answer.checked_out, answer.lock_is_free) == (status, 0, True)
        seen[act] = found(answer.items, act)
    return seen


async def test_a_response_below_400_leaves_after_the_last_flush(stage: Stage) -> None:
    """Promise 1: what it tells is visible to everybody when it leaves."""
    assert await ask_each(stage, lambda: Response(status_code=201), 201) == ACTS


async def test_a_stream_begins_after_the_last_flush(stage: Stage) -> None:
    """Promise 1, E1: its head is an answer too."""

    def end() -> Response:
        return StreamingResponse(stage.stream(lambda: iter(["a", "b"])), 200)

    assert await ask_each(stage, end, 200) == ACTS


async def test_a_returned_error_status_stores_nothing(stage: Stage) -> None:
    """D6, D7."""
    assert await ask_each(stage, lambda: JSONResponse({}, 422), 422) == UNTOUCHED
    assert {act: found(stage.world.items(), act) for act in ACTS} == UNTOUCHED


@pytest.mark.parametrize(("error", "status"), [(HTTPException(409), 409), (Trouble(), 500)])
async def test_what_raises_stores_nothing(stage: Stage, error: Exception, status: int) -> None:
    """D3, D4."""

    def end() -> None:
        raise error

    assert await ask_each(stage, end, status) == UNTOUCHED
    assert {act: found(stage.world.items(), act) for act in ACTS} == UNTOUCHED


async def test_an_exception_turned_into_200_stores_nothing(stage: Stage) -> None:
    """D4, decision 3."""
    handle(stage.app, Trouble, 200)

    def end() -> None:
        raise Trouble

    assert await ask_each(stage, end, 200) == UNTOUCHED
    assert {act: found(stage.world.items(), act) for act in ACTS} == UNTOUCHED


@pytest.mark.parametrize("way", ["doom", "set_rollback"])
async def test_a_rollback_that_is_meant_keeps_the_answer(stage: Stage, way: str) -> None:
    """A7, D8."""

    def end() -> Response:
        stage.db.doom() if way == "doom" else stage.db.set_rollback(True)
        return Response(status_code=201)

    assert await ask_each(stage, end, 201) == UNTOUCHED
    assert {act: found(stage.world.items(), act) for act in ACTS} == UNTOUCHED


@pytest.mark.parametrize("handled", [False, True])
async def test_a_last_flush_that_fails_is_no_success(stage: Stage, *, handled: bool) -> None:
    """D15, G1: 409 by the application's own handler, else 500; never 2xx."""
    if handled:
        handle_conflict(stage.app)

    def end() -> Response:
        fail(stage.db)
        return Response(status_code=201)

    assert await ask_each(stage, end, 409 if handled else 500) == UNTOUCHED
    assert {act: found(stage.world.items(), act) for act in ACTS} == UNTOUCHED


async def test_a_block_that_is_left_quietly_stores_nothing(stage: Stage) -> None:
    """A23: what was added before it is stored, as the request ends well."""

    def end() -> Response:
        with stage.db.atomic():
            fail(stage.db)
            raise Rollback
        return Response(status_code=201)

    assert await ask_each(stage, end, 201) == ACTS
