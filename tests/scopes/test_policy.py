"""Which responses and errors keep the work. Cases D6 and D7."""

import pytest
from starlette.responses import JSONResponse, Response

from dbscope import (
    default_commit_veto,
)
from tests.scopes.stage import (
    Stage,
    Trouble,
    handle,
    only,
)

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


@pytest.mark.parametrize("status", [200, 302, 404, 500])
@pytest.mark.parametrize(("value", "veto"), [(b"commit", False), (b"abort", True), (b"", True)])
@pytest.mark.parametrize("name", [b"x-tm", b"X-Tm"])
@pytest.mark.parametrize("error", [None, Trouble()])
def test_the_header_overrules_the_status(
    name: bytes, value: bytes, veto: bool, status: int, error: Exception | None
) -> None:
    """D6: `commit` keeps, everything else rolls back, whatever the status or exception."""
    assert default_commit_veto({}, status, [(b"vary", b"x"), (name, value)], error) is veto


def test_the_veto_rolls_back_an_exception_that_became_a_success() -> None:
    """D4."""
    assert default_commit_veto({}, 200, [], Trouble()) is True


@only()
@pytest.mark.parametrize(
    ("status", "value", "kept"),
    [(200, "commit", True), (409, "commit", True), (200, "abort", False), (200, "", False)],
)
async def test_the_header_decides_and_is_taken_off(
    stage: Stage, status: int, value: str, kept: bool
) -> None:
    """D6: `X-Tm` is for us; the other headers are for the client."""

    def body() -> Response:
        stage.insert("a")
        return JSONResponse({}, status, {"X-Tm": value, "X-Other": "1"})

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (status, ["a"] if kept else [])
    assert "x-tm" not in seen.answer.headers
    assert seen.answer.headers["x-other"] == "1"


@only("inline")
async def test_the_header_is_taken_off_where_no_database_was_used(stage: Stage) -> None:
    """D6."""
    stage.route(lambda: Response(headers={"X-Tm": "commit"}))
    assert "x-tm" not in (await stage.ask()).answer.headers


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
