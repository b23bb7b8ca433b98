"""Which responses and errors keep the work. Cases D6 and D7."""

import pytest
from fastapi import HTTPException
from starlette.responses import JSONResponse, Response

from dbscope import ScopeMissing, default_commit_veto
from tests.scopes.stage import AROUND as EVERYWHERE
from tests.scopes.stage import ASYNC, Stage, Trouble, handle, only, work

pytestmark = pytest.mark.anyio


# -- D6, D7: the veto --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [100, 200, 201, 204, 301, 302, 303, 304, 399])
def test_the_veto_keeps_what_is_below_400(status: int) -> None:
    """D6."""
    assert default_commit_veto({}, status, [], None) is False


@pytest.mark.parametrize("status", [400, 403, 404, 409, 411, 422, 500, 503])
def test_the_veto_rolls_back_from_400_on(status: int) -> None:
    """D6."""
    assert default_commit_veto({}, status, [], None) is True


def test_the_veto_rolls_back_an_exception_that_became_a_success() -> None:
    """D4."""
    assert default_commit_veto({}, 200, [], Trouble()) is True


@pytest.mark.parametrize("name", [b"x-tm", b"X-Tm", b"x-dbscope-keep", b"X-DBScope-Keep"])
@pytest.mark.parametrize("value", ["commit", "abort", ""])
@pytest.mark.parametrize("status", [200, 409])
@only("inline", "psycopg async", "sqlite3", places=EVERYWHERE)
async def test_a_header_decides_nothing_and_is_taken_off(
    stage: Stage, status: int, value: str, name: bytes
) -> None:
    """D6: an answer that was fetched from elsewhere, or copied, could have brought it in."""

    def body() -> Response:
        stage.insert("a")
        response = JSONResponse({}, status, {"X-Other": "1"})
        response.raw_headers.append((name, value.encode()))
        return response

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (status, ["a"] if status < 400 else [])
    assert set(seen.answer.headers) == {"content-length", "content-type", "x-other"}


@only("inline")
async def test_a_header_is_taken_off_where_no_database_was_used(stage: Stage) -> None:
    """D6."""
    stage.route(lambda: Response(headers={"X-Tm": "commit"}))
    assert "x-tm" not in (await stage.ask()).answer.headers


# -- `db.keep` -------------------------------------------------------------------------------------


@only(places=EVERYWHERE)
async def test_what_is_to_be_kept_is_kept_whatever_its_status(stage: Stage) -> None:
    """D6: the client sees nothing of it."""

    def body() -> Response:
        stage.insert("a")
        return stage.real.keep(JSONResponse({}, 409))

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (409, ["a"])
    assert set(seen.answer.headers) == {"content-length", "content-type"}


@only("inline", "sqlite3", places=EVERYWHERE)
async def test_the_response_of_fastapi_may_be_kept(stage: Stage) -> None:
    """D6: the one that an endpoint is given, for its status and its headers."""

    async def endpoint(response: Response) -> dict[str, str]:
        await work(stage, lambda: stage.insert("a"))
        response.status_code = 409
        stage.real.keep(response)
        return {}

    stage.app.add_api_route("/", endpoint, methods=["POST"])
    seen = await stage.ask()
    assert (seen.status, seen.items) == (409, ["a"])
    assert "x-dbscope-keep" not in seen.answer.headers


@only("inline", "sqlite3", places=EVERYWHERE)
async def test_only_the_response_that_was_kept_is(stage: Stage) -> None:
    """D6: neither that of an error which came later, nor one of another request."""
    kept: list[Response] = []

    def body() -> Response:
        stage.insert(f"{len(kept)}")
        if kept:
            return kept[0]
        kept.append(stage.real.keep(JSONResponse({}, 409)))
        raise HTTPException(409)

    stage.route(body)
    for _ in range(2):
        seen = await stage.ask()
        assert (seen.status, seen.items) == (409, [])
        assert "x-dbscope-keep" not in seen.answer.headers


@only("inline", "sqlite3")
async def test_what_cannot_be_kept_is_refused(stage: Stage) -> None:
    """Outside of any scope, and what is no response."""
    with pytest.raises(ScopeMissing, match="keep"):
        stage.real.keep(Response())
    with pytest.raises(TypeError, match="response"):
        stage.real.keep({"detail": "no"})


@only(*ASYNC)
async def test_the_response_of_a_request_inside_a_test_is_as_it_was(stage: Stage) -> None:
    """D12: the scope around it decides."""
    stage.route(lambda: stage.real.keep(JSONResponse({}, 409)))
    async with stage.real.scope():
        answer = (await stage.ask()).answer
    assert (answer.status, set(answer.headers)) == (409, {"content-length", "content-type"})


@only()
async def test_without_a_veto_only_an_exception_rolls_back(stage: Stage) -> None:
    """D7: `commit_veto=None`, Django's way: a returned 500 is kept, a raised error is not."""
    stage.install["commit_veto"] = None
    handle(stage.app, Trouble, 200)

    def returned() -> Response:
        stage.insert("returned")
        return Response(status_code=500)

    def raised() -> None:
        stage.insert("raised")
        raise Trouble

    stage.route(returned, "/returned")
    stage.route(raised, "/raised")
    assert (await stage.ask(path="/returned")).items == ["returned"]
    seen = await stage.ask(path="/raised")
    assert (seen.status, seen.items) == (200, ["returned"])
