"""What the client is told when the work could not be kept, or the database is away."""

import socket
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from starlette.responses import Response

from dbscope import (
    DatabaseUnavailable,
    PoolTimeout,
)
from tests.scopes.stage import (
    ALONE,
    INSIDE,
    OUTSIDE,
    SERVERS,
    Stage,
    Trouble,
    handle,
    only,
)
from tests.worlds import Item, needs_late_check

pytestmark = pytest.mark.anyio


# -- the application's own answers -----------------------------------------------------------------


@needs_late_check
@only()
@pytest.mark.parametrize("plain", [False, True], ids=["async-handler", "def-handler"])
async def test_the_handler_of_a_failed_commit_has_units_of_its_own(
    stage: Stage, plain: bool
) -> None:
    """D15: it may query, sees the state after the rollback, and its work follows its answer."""
    counted: list[Any] = []

    def work() -> Response:
        counted.append(stage.db.scalar(select(func.count()).select_from(Item)))
        stage.insert("by the handler")
        return stage.real.keep(Response(status_code=409))

    if stage.world.is_async:
        task = Stage(stage.world).route(work)

        @stage.app.exception_handler(IntegrityError)
        async def async_handler(request: Any, error: Exception) -> Any:
            return await task()
    else:

        @stage.app.exception_handler(IntegrityError)
        def handler(request: Any, error: Exception) -> Any:
            return work()

    stage.route(lambda: (stage.insert("a"), stage.insert_orphan()))
    seen = await stage.ask()
    assert (seen.status, counted, seen.items) == (409, [0], ["by the handler"])


@needs_late_check
@only(places=(ALONE, INSIDE))
async def test_a_handler_that_fails_on_a_failed_commit_is_500(stage: Stage) -> None:
    """D15: its own COMMIT fails too; there is still exactly one answer, and no success."""

    @stage.app.exception_handler(IntegrityError)
    async def handler(request: Any, error: Exception) -> Any:
        raise Trouble

    stage.route(stage.insert_orphan)
    seen = await stage.ask()
    assert seen.status == 500
    assert isinstance(seen.answer.error, Trouble)


@needs_late_check
@only()
async def test_a_handler_cannot_make_a_success_of_a_failed_commit(stage: Stage) -> None:
    """Promise 1: the handler of the error answers 200; that is not what happened."""
    handle(stage.app, IntegrityError, 200)
    stage.route(stage.insert_orphan)
    seen = await stage.ask()
    assert seen.status == 500
    assert isinstance(seen.answer.error, IntegrityError)


@needs_late_check
@only("inline", "psycopg async")
@pytest.mark.parametrize("status", [200, 409])
@pytest.mark.parametrize("kind", ["pure", "BaseHTTPMiddleware", "silent"])
async def test_a_middleware_cannot_make_a_success_of_a_failed_commit(
    stage: Stage, kind: str, status: int
) -> None:
    """Promise 1: it catches everything, and tries to answer; below 400 it does not get through."""
    if kind == "BaseHTTPMiddleware":

        @stage.app.middleware("http")
        async def catch_all(request: Any, call_next: Any) -> Response:
            try:
                return await call_next(request)  # type: ignore[no-any-return]
            except Exception:
                return Response(status_code=status)
    else:
        stage.app.add_middleware(CatchAll, status=None if kind == "silent" else status)
    stage.route(stage.insert_orphan)
    seen = await stage.ask()
    if kind == "pure":
        assert seen.status == (409 if status == 409 else 500)
    elif kind == "silent":
        assert seen.status in (None, 500)  # no answer at all, which servers make a 500 of
    else:
        assert seen.status == 500
    assert seen.items in ([], None)


class CatchAll:
    """A middleware that turns every exception into a status of its own, or into silence."""

    def __init__(self, app: Any, status: int | None) -> None:
        self.app = app
        self.status = status

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception:
            if self.status is not None:
                await Response(status_code=self.status)(scope, receive, send)


# -- the database is away, or all of it is in use --------------------------------------------------


@only(places=(ALONE, INSIDE, OUTSIDE))
@pytest.mark.parametrize("handled", [False, True], ids=["ours", "handler"])
async def test_a_pool_that_is_used_up_is_503(stage: Stage, handled: bool) -> None:
    """Decision 18: with Retry-After, unless the application answers PoolTimeout itself."""
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.05}
    stage.remake(engine_options=options)
    if handled:
        handle(stage.app, PoolTimeout, 418)
    stage.route(lambda: stage.db.scalar(text("SELECT 1")))
    connection = await in_their_way(stage, stage.real.engine.connect)
    try:
        seen = await stage.ask()
    finally:
        await in_their_way(stage, connection.close)
    assert seen.status == (418 if handled else 503)
    assert ("retry-after" in seen.answer.headers) is not handled
    assert (await stage.ask()).status == 200


async def in_their_way(stage: Stage, function: Any) -> Any:
    """Call it in a thread, or await what it returns."""
    if stage.world.is_async:
        return await function()
    return await anyio.to_thread.run_sync(function)


@only(*SERVERS, places=(ALONE, INSIDE, OUTSIDE))
@pytest.mark.parametrize("handled", [False, True], ids=["ours", "handler"])
async def test_a_database_that_is_away_is_503(
    stage: Stage, handled: bool, nobody: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Decision 18: nobody listens there; with Retry-After, unless the application answers it."""
    url = stage.real.url.set(port=nobody)
    stage.remake(url.render_as_string(hide_password=False))
    if handled:
        handle(stage.app, DatabaseUnavailable, 418)
    stage.route(lambda: stage.db.scalar(text("SELECT 1")))
    seen = await stage.ask()
    assert seen.status == (418 if handled else 503)
    if not handled:
        assert int(seen.answer.headers["retry-after"]) > 0
        assert seen.answer.error is None
        assert "cannot be reached" in caplog.text


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that is taken, where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
