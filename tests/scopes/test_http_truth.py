"""The truth table: what a client is told, and what another client then finds in the database.

Each row in every driver, with a user's `@app.middleware("http")` nowhere, outside and inside ours.
Another connection looks while `http.response.start` passes.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import HTTPException
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, Response, StreamingResponse

from dbscope import UnexpectedRollback
from tests.scopes.stage import ALONE, Stage, Trouble, handle, handle_conflict, swallowed
from tests.worlds import Item, needs_late_check

pytestmark = pytest.mark.anyio


# -- kept ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 303])
async def test_a_response_below_400_leaves_after_commit(stage: Stage, status: int) -> None:
    """D6, D16, promise 1: what it tells is visible to everybody when it leaves."""

    def body() -> Response:
        stage.insert("a")
        return Response(status_code=status)

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items, seen.checked_out) == (status, ["a"], 0)


# -- rolled back -----------------------------------------------------------------------------------


async def test_a_raised_http_exception_rolls_back(stage: Stage) -> None:
    """D4: `raise HTTPException(409)` keeps nothing."""

    def body() -> None:
        stage.insert("a")
        raise HTTPException(409)

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items, seen.lock_is_free) == (409, [], True)


@pytest.mark.parametrize("status", [422, 500])
async def test_a_returned_error_status_rolls_back(stage: Stage, status: int) -> None:
    """D6, D7: `return JSONResponse(status_code=422)` does the same as raising it."""

    def body() -> Response:
        stage.insert("a")
        return JSONResponse({"kept": False}, status)

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items, seen.lock_is_free) == (status, [], True)
    assert seen.answer.is_complete
    assert stage.world.items() == []


async def test_an_unhandled_exception_rolls_back_and_is_500(stage: Stage) -> None:
    """D3: the server sees the exception itself."""
    trouble = Trouble()

    def body() -> None:
        stage.insert("a")
        raise trouble

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (500, [])
    assert seen.answer.error is trouble


@pytest.mark.parametrize("plain", [False, True], ids=["async-handler", "def-handler"])
async def test_an_exception_turned_into_200_rolls_back(
    stage: Stage, plain: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """D4, decision 3: the endpoint did not do its work, whatever the handler makes of it."""
    handle(stage.app, Trouble, 200, plain=plain)

    def body() -> None:
        stage.insert("a")
        raise Trouble

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, [])
    assert stage.world.items() == []
    (told,) = [each for each in caplog.messages if "POST / is answered 200" in each]
    assert "Trouble" in told
    assert "db.keep(response)" in told


@pytest.mark.parametrize("written", [True, False])
async def test_so_does_a_redirect_that_is_raised_and_the_log_says_so(
    stage: Stage, written: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Where something was lost by it; who returns the response has it stored."""

    def body() -> None:
        if written:
            stage.insert("a")
        else:
            stage.db.scalar(text("SELECT 1"))
        raise HTTPException(303, headers={"location": "/"})

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (303, [])
    assert any("is answered 303" in each for each in caplog.messages) is written


@pytest.mark.parametrize("plain", [False, True], ids=["async-handler", "def-handler"])
async def test_an_exception_turned_into_200_commits_if_the_veto_says_so(
    stage: Stage, plain: bool
) -> None:
    """D5: a redirect by exception must be able to commit; the veto is given the exception."""
    given: list[Any] = []

    def veto(scope: Any, status: int, headers: Any, exception: BaseException | None) -> bool:
        given.append((scope["path"], status, exception))
        return status >= 400

    trouble = Trouble()
    stage.install["commit_veto"] = veto
    handle(stage.app, Trouble, 200, plain=plain)

    def body() -> None:
        stage.insert("a")
        raise trouble

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["a"])
    assert given == [("/", 200, trouble)]


@pytest.mark.parametrize("plain", [False, True], ids=["async-handler", "def-handler"])
async def test_an_exception_turned_into_200_commits_if_that_is_kept(
    stage: Stage, plain: bool
) -> None:
    """D5, D6: the handler says so, by `db.keep` of its response."""
    handle(stage.app, Trouble, 200, plain=plain, kept_by=stage.real)

    def body() -> None:
        stage.insert("a")
        raise Trouble

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["a"])
    assert "x-dbscope-keep" not in seen.answer.headers


async def test_a_doomed_request_keeps_its_response_and_rolls_back(stage: Stage) -> None:
    """D8."""

    def body() -> Response:
        stage.insert("a")
        stage.db.doom()
        return JSONResponse({"kept": False}, 201)

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items, seen.answer.body) == (201, [], b'{"kept":false}')
    assert stage.world.items() == []


# -- COMMIT fails ----------------------------------------------------------------------------------


@needs_late_check
@pytest.mark.parametrize("plain", [False, True], ids=["async-handler", "def-handler"])
async def test_a_failed_commit_is_answered_by_the_applications_handler(
    stage: Stage, plain: bool
) -> None:
    """D15, G9: 409, never 2xx and not one 500; nothing runs behind it; no lock is left."""
    ran: list[str] = []
    handle_conflict(stage.app, plain=plain)

    def body() -> Response:
        stage.insert("a")
        stage.insert_orphan()
        stage.db.on_commit(lambda: ran.append("hook"))
        return JSONResponse({}, 201, background=BackgroundTask(ran.append, "background"))

    stage.route(body)
    for _ in range(3):
        seen = await stage.ask()
        assert (seen.status, seen.items) == (409, [])
        assert (seen.checked_out, seen.lock_is_free) == (0, True)
        assert seen.answer.body == b'{"handled":"IntegrityError"}'
        assert seen.answer.is_complete
        assert seen.answer.error is None
    assert ran == []
    assert stage.world.items() == []


@needs_late_check
async def test_a_failed_commit_without_a_handler_is_500(stage: Stage) -> None:
    """D15: the server sees the error of COMMIT itself."""

    def body() -> Response:
        stage.insert("a")
        stage.insert_orphan()
        return Response(status_code=204)

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items, seen.lock_is_free) == (500, [], True)
    assert isinstance(seen.answer.error, IntegrityError)


@needs_late_check
async def test_a_failed_commit_never_starts_a_stream(stage: Stage) -> None:
    """D15, D17: no byte of it leaves."""
    handle_conflict(stage.app)

    def chunks() -> Iterator[str]:
        yield "never"

    def body() -> Response:
        stage.insert_orphan()
        return StreamingResponse(stage.stream(chunks))

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.answer.body) == (409, b'{"handled":"IntegrityError"}')


@pytest.mark.parametrize("way", ["flush", "execute"])
async def test_a_swallowed_sql_error_is_never_a_success(stage: Stage, way: str) -> None:
    """Semantics 0.1: on every database alike, 500 and UnexpectedRollback from the swallowed one."""

    def body() -> Response:
        stage.insert("a")
        with swallowed(IntegrityError):
            if way == "flush":
                stage.insert("a")
            else:
                stage.db.execute(insert(Item).values(name="a"))
        return Response(status_code=200)

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (500, [])
    assert isinstance(seen.answer.error, UnexpectedRollback)
    assert isinstance(seen.answer.error.__cause__, IntegrityError)


# -- the tail --------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", ["at-once", "before"])
async def test_a_stream_may_query_after_the_commit(stage: Stage, taken: str) -> None:
    """D14, D17: committed before the first byte; the generator works; later requests do, too."""

    def body() -> Response:
        stage.insert("a")
        before = stage.db.session

        def chunks() -> Iterator[str]:
            for _ in range(3):
                session = before if taken == "before" else stage.db.session
                yield f"{session.scalar(text('SELECT count(*) FROM item'))} "

        return StreamingResponse(stage.stream(chunks))

    def ordinary() -> int:
        return int(stage.db.scalar(text("SELECT count(*) FROM item")))

    stage.route(body)
    stage.route(ordinary, "/ordinary", "GET")
    seen = await stage.ask()
    assert (seen.status, seen.items, seen.answer.body) == (200, ["a"], b"1 1 1 ")
    assert seen.answer.is_complete
    assert [(await stage.ask("GET", "/ordinary")).status for _ in range(6)] == [200] * 6
    assert stage.real.stats()["connections_discarded"] == 0


async def test_a_background_task_has_a_unit_of_its_own(stage: Stage) -> None:
    """D16: what it writes through `db.session` is committed when it ends, after the response."""

    def body() -> Response:
        stage.insert("a")
        return JSONResponse({}, background=BackgroundTask(stage.task(lambda: stage.insert("b"))))

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["a"])
    assert stage.world.items() == ["a", "b"]


async def test_a_failing_background_task_touches_nothing_else(stage: Stage) -> None:
    """D16: the request's own work and its response stay; the task's work is rolled back."""

    def background() -> None:
        stage.insert("b")
        raise Trouble

    def body() -> Response:
        stage.insert("a")
        return JSONResponse({}, background=BackgroundTask(stage.task(background)))

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["a"])
    assert seen.answer.is_complete
    assert isinstance(seen.answer.error, Trouble)
    assert stage.world.items() == ["a"]


async def test_an_exception_while_streaming_leaks_nothing(stage: Stage) -> None:
    """D17: nothing can be taken back; the body is cut, and the tail's work rolled back."""

    def body() -> Response:
        stage.insert("a")

        def chunks() -> Iterator[str]:
            yield "first"
            stage.insert("b")
            yield "second"
            raise Trouble

        return StreamingResponse(stage.stream(chunks))

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["a"])
    assert stage.around != ALONE or not seen.answer.is_complete  # BaseHTTPMiddleware ends it
    assert isinstance(seen.answer.error, Trouble)
    assert stage.world.items() == ["a"]


@pytest.mark.parametrize("how", ["disconnect", "broken-pipe"])
async def test_a_client_that_leaves_while_streaming_leaks_nothing(stage: Stage, how: str) -> None:
    """D17: what was committed stays, the generator is ended, its unit rolled back or committed."""

    def body() -> Response:
        stage.insert("a")

        def chunks() -> Iterator[str]:
            while True:
                yield str(stage.db.scalar(text("SELECT count(*) FROM item")))

        return StreamingResponse(stage.stream(chunks))

    stage.route(body)
    await stage.ask_and_leave(how)
    assert stage.world.items() == ["a"]
    await stage.check_clean()


# -- nothing -------------------------------------------------------------------------------------


async def test_a_request_that_needs_no_database_opens_nothing(stage: Stage) -> None:
    """D13, promise 4: no session, no connection, no statement."""
    stage.route(lambda: None)
    seen = await stage.ask()
    assert (seen.status, stage.world.statements) == (200, [])
    stats = stage.real.stats()
    assert (stats["sessions"], stats["transactions"], stats["pool_checked_out"]) == (0, 0, 0)
