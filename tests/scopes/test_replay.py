"""A request whose transaction met another one is done again, as a whole. Cases D21 to D26, G10."""

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any

import pytest
from fastapi import Body, Request
from sqlalchemy import text
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.util import greenlet_spawn
from starlette.background import BackgroundTask
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse, StreamingResponse

from dbscope import DBSessionMiddleware, PartialCommit, TransactionOutcomeUnknown
from dbscope.scopes.replay import ReplayableRequest
from dbscope.scopes.routes import Routes
from tests.asgi import ask, http_scope
from tests.conflicts import be_stale, counters, value
from tests.scopes.stage import (
    INSIDE,
    POSTGRES,
    Seen,
    Stage,
    close,
    handle,
    handle_conflict,
    only,
    swallowed,
)
from tests.unit.hooks import Log
from tests.worlds import Both, plain_engine

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("pauses")]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(autouse=True)
def no_route_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the routes of one test ask for is nothing to the next."""
    monkeypatch.setattr(Routes, "retry", False)


class Endpoint:
    """Stores an item, fails as often as that, and returns the number of the attempt."""

    def __init__(
        self, stage: Stage, conflicts: int, fail: Callable[[Both], Any] = be_stale
    ) -> None:
        self.stage = stage
        self.conflicts = conflicts
        self.fail = fail
        self.attempts = 0
        counters(stage.world, 1)

    def __call__(self) -> int:
        self.attempts += 1
        assert not self.stage.real.session.identity_map
        self.stage.insert(f"of attempt {self.attempts}")
        if self.attempts <= self.conflicts:
            self.fail(self.stage.db)
        return self.attempts


async def served(
    stage: Stage, conflicts: int, fail: Callable[[Both], Any] = be_stale, retry: int = 2, **kw: Any
) -> tuple[Endpoint, Seen]:
    """Make the endpoint, and send it a request."""
    endpoint = Endpoint(stage, conflicts, fail)
    stage.route(endpoint)
    stage.install |= {"retry": retry}
    return endpoint, await stage.ask(**kw)


# -- what is done again ----------------------------------------------------------------------------


async def test_a_request_that_met_another_one_is_done_again(stage: Stage) -> None:
    """D21: with a session that knows nothing; the client gets one answer."""
    endpoint, seen = await served(stage, conflicts=2)
    assert (seen.status, seen.answer.body, endpoint.attempts) == (200, b"3", 3)
    assert (seen.items, seen.checked_out) == (["of attempt 3"], 0)


async def test_after_the_last_attempt_its_error_goes_on(stage: Stage) -> None:
    """D23: with notes about the attempts before."""
    endpoint, seen = await served(stage, conflicts=9)
    assert (seen.status, endpoint.attempts) == (500, 3)
    error = seen.answer.error
    assert isinstance(error, StaleDataError)
    assert error.__notes__ == [
        "Attempt 1 failed by StaleDataError (StaleDataError).",
        "Attempt 2 failed by StaleDataError (StaleDataError).",
    ]
    assert stage.world.items() == []


@pytest.mark.parametrize("plain", [False, True])
async def test_a_handler_answers_only_after_the_last_attempt(stage: Stage, plain: bool) -> None:
    """D21: before that, its response is discarded."""
    handle(stage.app, StaleDataError, 409, plain=plain)
    endpoint, seen = await served(stage, conflicts=2)
    assert (seen.status, seen.items, endpoint.attempts) == (200, ["of attempt 3"], 3)
    endpoint.conflicts = 99
    seen = await stage.ask()
    assert (seen.status, seen.answer.error, endpoint.attempts) == (409, None, 6)
    assert json.loads(seen.answer.body) == {"handled": "StaleDataError"}
    assert seen.items == ["of attempt 3"]


async def test_a_swallowed_conflict_is_done_again(stage: Stage) -> None:
    """It would be answered by UnexpectedRollback, whose cause it is."""

    def swallow(db: Both) -> None:
        with swallowed(StaleDataError):
            be_stale(db)

    endpoint, seen = await served(stage, conflicts=1, fail=swallow)
    assert (seen.status, seen.items, endpoint.attempts) == (200, ["of attempt 2"], 2)


@only(*POSTGRES, places=("alone", "outside", "inside"))
async def test_a_conflict_that_only_commit_finds_is_done_again(stage: Stage, log: Log) -> None:
    """G10: the response that was ready is discarded, with its background task and hooks."""
    serializable = {"engine_options": {"isolation_level": "SERIALIZABLE"}}
    stage.remake(**serializable)
    counters(stage.world, 2)
    other = type(stage.real)(stage.world.url, **serializable)
    calls: list[int] = []

    def change(client: Any, number: int) -> None:
        client.execute(text("SELECT sum(value) FROM counter"))
        client.execute(text("UPDATE counter SET value = 7 WHERE id = :id"), {"id": number})

    def endpoint() -> JSONResponse:
        calls.append(1)
        change(stage.db, 1)
        stage.db.on_commit(log.note(f"stored by {len(calls)}"))
        stage.db.on_rollback(log.note(f"undone of {len(calls)}"))
        if len(calls) == 1:
            with plain_engine(other).begin() as connection:  # another client, in no scope of ours
                change(connection, 2)
        task = stage.task(log.note(f"task of {len(calls)}"))
        return JSONResponse({}, background=BackgroundTask(task))

    stage.route(endpoint)
    stage.install |= {"retry": 1}
    seen = await stage.ask()
    await close(other)
    assert (seen.status, len(calls)) == (200, 2)
    assert log == ["undone of 1", "stored by 2", "task of 2"]


@only(places=(INSIDE,))
async def test_a_middleware_that_answers_all_errors_changes_nothing(stage: Stage) -> None:
    """Inside of ours, it has turned the conflict into a response."""

    @stage.app.middleware("http")
    async def answer_all(request: Any, call_next: Any) -> Any:
        try:
            return await call_next(request)
        except Exception:
            return JSONResponse({}, 500)

    endpoint, seen = await served(stage, conflicts=1)
    assert (seen.status, seen.items, endpoint.attempts) == (200, ["of attempt 2"], 2)


@only()
async def test_what_follows_a_failure_is_not_kept(stage: Stage) -> None:
    """A middleware that swallows everything, and writes: that belongs to the attempt too."""

    class Swallowing:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await self.app(scope, receive, send)
            except Exception:
                await greenlet_or_call(stage, partial(stage.insert, "note of it"))

    stage.app.add_middleware(Swallowing)
    endpoint, seen = await served(stage, conflicts=1)
    assert (seen.status, seen.items, endpoint.attempts) == (200, ["of attempt 2"], 2)
    assert stage.world.items() == ["of attempt 2"]


@only()
async def test_no_answer_hides_a_failed_commit_that_can_be_repeated(stage: Stage) -> None:
    """A layer inside of ours that answers whatever comes out of `send`, too."""
    stage.app.add_middleware(partial(OnFailure, react=answer_500))

    def swallow(db: Both) -> None:
        with swallowed(StaleDataError):
            be_stale(db)

    endpoint, seen = await served(stage, conflicts=1, fail=swallow)
    assert (seen.status, seen.items, endpoint.attempts) == (200, ["of attempt 2"], 2)


@only()
async def test_what_a_failed_attempt_did_is_never_kept(stage: Stage) -> None:
    """Even if a layer inside of ours hides the failure, and the transaction is sound."""
    handle(stage.app, StaleDataError, 409)
    stage.app.add_middleware(partial(OnFailure, react=ignore))

    def fail(db: Both) -> None:
        raise StaleDataError

    endpoint, seen = await served(stage, conflicts=1, fail=fail)
    assert (seen.status, seen.items, endpoint.attempts) == (200, ["of attempt 2"], 2)


class OnFailure:
    """A layer inside of ours that reacts to every exception by itself."""

    def __init__(self, app: Any, react: Callable[..., Any]) -> None:
        self.app = app
        self.react = react

    async def __call__(self, *request: Any) -> None:
        try:
            await self.app(*request)
        except Exception:
            await self.react(*request)


async def answer_500(*request: Any) -> None:
    await JSONResponse({}, 500)(*request)


async def ignore(*request: Any) -> None: ...


async def be_cancelled(*request: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@only()
async def test_a_cancellation_of_a_failed_attempt_is_not_swallowed(stage: Stage) -> None:
    """It comes when it is decided already that there is to be another attempt."""
    handle(stage.app, StaleDataError, 409)
    stage.app.add_middleware(partial(OnFailure, react=be_cancelled))
    endpoint = Endpoint(stage, 1)
    stage.route(endpoint)
    stage.install |= {"retry": 2}
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(stage.ask())
    assert endpoint.attempts == 1


async def greenlet_or_call(stage: Stage, function: Callable[[], Any]) -> None:
    """Run it as the database of the stage wants it."""
    if stage.world.is_async:
        await greenlet_spawn(function)
    else:
        await asyncio.to_thread(function)


# -- what is not -----------------------------------------------------------------------------------


async def test_other_failures_are_not_repeated(stage: Stage) -> None:
    """D23: a duplicate is answered by its handler, at once."""
    handle_conflict(stage.app)

    def fail(db: Both) -> None:
        stage.insert("a")
        stage.insert("a")

    endpoint, seen = await served(stage, 9, fail)
    assert (seen.status, endpoint.attempts) == (409, 1)


async def test_an_answer_that_the_endpoint_chose_is_not_repeated(stage: Stage) -> None:
    """It caught the conflict, and answers 409 by itself."""

    def body() -> JSONResponse:
        with swallowed(StaleDataError):
            endpoint()
        return JSONResponse({}, 409)

    endpoint = Endpoint(stage, 9)
    stage.route(body)
    stage.install |= {"retry": 2}
    assert ((await stage.ask()).status, endpoint.attempts) == (409, 1)


async def test_without_retry_nothing_is_repeated(stage: Stage) -> None:
    """It is off unless somebody asks for it."""
    endpoint, seen = await served(stage, conflicts=1, retry=0)
    assert (seen.status, endpoint.attempts) == (500, 1)


async def test_what_is_stored_is_not_repeated(stage: Stage) -> None:
    """After a commit by hand only a part could be done again."""

    def fail(db: Both) -> None:
        db.session.commit()
        be_stale(db)

    endpoint, seen = await served(stage, 9, fail)
    assert (seen.status, endpoint.attempts) == (500, 1)
    assert stage.world.items() == ["of attempt 1"]


@only(*POSTGRES)
async def test_half_of_two_databases_is_not_repeated(stage: Stage) -> None:
    """One was committed when the other failed: the first would be written twice."""
    serializable = {"engine_options": {"isolation_level": "SERIALIZABLE"}}
    stage.remake(**serializable)
    counters(stage.world, 2)
    other = type(stage.real)(stage.world.url, **serializable)
    calls: list[int] = []

    def endpoint() -> None:
        calls.append(1)
        for number, db in enumerate((stage.db, Both(other)), start=1):
            db.execute(text("SELECT sum(value) FROM counter"))
            db.execute(text("UPDATE counter SET value = 7 WHERE id = :id"), {"id": number})

    stage.route(endpoint)
    stage.install |= {"retry": 1}
    seen = await stage.ask()
    await close(other)
    assert (seen.status, len(calls), value(stage.world)) == (500, 1, 7)
    error = seen.answer.error
    assert isinstance(error, PartialCommit)
    assert stage.db.is_retryable(error.__cause__)
    assert not stage.db.is_retryable(error)


async def test_an_unknown_outcome_is_not_repeated(stage: Stage) -> None:
    """It may be stored."""

    def fail(db: Both) -> None:
        raise TransactionOutcomeUnknown from StaleDataError("")

    endpoint, seen = await served(stage, 9, fail)
    assert (seen.status, endpoint.attempts) == (500, 1)


async def test_a_response_that_has_started_is_not_repeated(stage: Stage) -> None:
    """What the client has read cannot be taken back; the stream ends with an error."""
    counters(stage.world, 1)
    calls: list[int] = []

    def chunks() -> Iterator[str]:
        yield "a"
        be_stale(stage.db)

    def body() -> StreamingResponse:
        calls.append(1)
        return StreamingResponse(stage.stream(chunks))

    stage.route(body)
    stage.install |= {"retry": 2}
    seen = await stage.ask()
    assert (seen.status, seen.answer.body, len(calls)) == (200, b"a", 1)
    assert isinstance(seen.answer.error, StaleDataError)


@only()
async def test_a_cancellation_ends_the_attempts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes during the pause, and nobody is answered."""
    pausing = asyncio.Event()

    def uniform(*limits: float) -> float:
        pausing.set()
        return 60

    monkeypatch.setattr("dbscope.scopes.backoff.random.uniform", uniform)
    endpoint = Endpoint(stage, 1)
    stage.route(endpoint)
    stage.install |= {"retry": 2}
    task = asyncio.create_task(stage.ask())
    await pausing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert endpoint.attempts == 1


# -- the request, as it came in --------------------------------------------------------------------


def echo(stage: Stage, conflicts: int = 1) -> list[Any]:
    """Make an endpoint that reads a body; return what it got in each attempt."""
    endpoint, bodies = Endpoint(stage, conflicts), []
    data_of_body = Annotated[dict[str, Any], Body()]

    def body(data: Any) -> Any:
        bodies.append(data)
        endpoint()
        return data

    if stage.world.is_async:

        @stage.app.post("/")
        async def read(data: data_of_body) -> Any:
            return await greenlet_spawn(body, data)
    else:

        @stage.app.post("/")
        def read(data: data_of_body) -> Any:
            return body(data)

    return bodies


JSON = [(b"content-type", b"application/json")]


async def test_the_body_can_be_read_in_each_attempt(stage: Stage) -> None:
    """In whatever pieces it came."""
    bodies = echo(stage, conflicts=2)
    stage.install |= {"retry": 2}
    seen = await stage.ask(body=[b'{"a"', b": 1", b"}"], headers=JSON)
    assert (seen.status, seen.answer.body) == (200, b'{"a":1}')
    assert bodies == [{"a": 1}] * 3


@only("inline")
async def test_the_body_of_a_route_that_is_never_repeated_is_not_kept(stage: Stage) -> None:
    """D24: an upload costs no memory; the route is known when its body is read."""

    async def receive() -> Any:
        return {"type": "http.request", "body": b"a" * 100, "more_body": True}

    for retries, is_kept in ((0, False), (1, True)):
        endpoint = stage.real.retry_requests(retries)(db_function(stage, dict))
        whole = ReplayableRequest(
            http_scope("POST", "/") | {"endpoint": endpoint}, receive, 2, 1000
        )
        await whole.receive()
        assert whole.is_kept is is_kept


@only()
@pytest.mark.parametrize(("limit", "attempts", "status"), [(10, 2, 200), (9, 1, 500)])
async def test_a_body_over_the_limit_is_not_kept(
    stage: Stage, limit: int, attempts: int, status: int
) -> None:
    """D24: an upload is an ordinary failure."""
    bodies = echo(stage)
    stage.app.add_middleware(DBSessionMiddleware, retry=1, retry_body_limit=limit)
    seen = await stage.ask(body=[b'{"a"', b': "b"}'], headers=JSON)
    assert (seen.status, len(bodies)) == (status, attempts)


@only("inline")
async def test_after_the_body_comes_what_the_server_says(stage: Stage) -> None:
    """The disconnect of the client is not hidden by what was kept."""
    got: list[list[Any]] = []
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"b", "more_body": False},
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.append([await receive() for _ in range(1 + len(got))])
        if len(got) < 3:
            raise StaleDataError
        await JSONResponse({})(scope, receive, send)

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        return

    first, second = messages
    await DBSessionMiddleware(app, retry=2)(http_scope("POST", "/"), receive, send)
    assert got == [[first], [first, second], [first, second, {"type": "http.disconnect"}]]


async def test_nothing_leaks_into_the_next_attempt(stage: Stage) -> None:
    """`request.state`, the ASGI scope, its headers: as they came in, each time."""
    found: list[Any] = []
    endpoint = Endpoint(stage, 2)

    def read(request: Request) -> None:
        keys = sorted(set(request.scope) & {"strange", "session"})
        headers = [key for key, _ in request.scope["headers"] if key == b"x-more"]
        found.append([hasattr(request.state, "mine"), hasattr(request.state, "db"), keys, headers])
        request.state.mine = request.scope["strange"] = 1
        request.scope["headers"].append((b"x-more", b"1"))

    route_with_request(stage, lambda request: (read(request), endpoint())[1])
    stage.install |= {"retry": 2, "state_key": "db"}
    assert (await stage.ask()).status == 200
    assert found == [[False, True, [], []]] * 3


def route_with_request(stage: Stage, body: Callable[[Request], Any]) -> None:
    """Make an endpoint that is given the request."""
    if stage.world.is_async:

        async def carried(request: Request) -> Any:
            return await greenlet_spawn(body, request)

        stage.app.add_api_route("/", carried, methods=["POST"])
    else:

        def called(request: Request) -> Any:
            return body(request)

        stage.app.add_api_route("/", called, methods=["POST"])


@only()
async def test_the_cookie_session_is_that_of_the_attempt_that_won(stage: Stage) -> None:
    """What a failed attempt wrote there is taken back, inside of lists too."""
    endpoint = Endpoint(stage, 2)
    carts: list[Any] = []

    def body(request: Request) -> int:
        carts.append(json.dumps(request.session))
        request.session.setdefault("cart", []).append(len(carts))
        request.session["cart"] = request.session["cart"]
        return endpoint()

    async def start(request: Request) -> None:
        request.session["cart"] = [0]

    route_with_request(stage, body)
    stage.app.add_api_route("/start", start, methods=["POST"])
    stage.install |= {"retry": 2}
    stage.wire()
    stage.app.add_middleware(SessionMiddleware, secret_key="secret")
    cookie = (await stage.ask(path="/start")).answer.headers["set-cookie"].partition(";")[0]
    seen = await stage.ask(headers=[(b"cookie", cookie.encode())])
    assert (seen.status, carts) == (200, ['{"cart": [0]}'] * 3)
    carts.clear()
    endpoint.conflicts = 0
    cookie = seen.answer.headers["set-cookie"].partition(";")[0]
    await stage.ask(headers=[(b"cookie", cookie.encode())])
    assert carts == ['{"cart": [0, 3]}']


async def test_a_request_knows_which_attempt_it_is(stage: Stage) -> None:
    """`request.state.attempt` counts from 0; `last_attempt` tells that no other follows."""
    found: list[Any] = []
    endpoint = Endpoint(stage, 9)

    def body(request: Request) -> int:
        found.append((request.state.attempt, request.state.last_attempt))
        return endpoint()

    route_with_request(stage, body)
    stage.install |= {"retry": 2}
    assert (await stage.ask()).status == 500
    assert found == [(0, False), (1, False), (2, True)]


@only("inline")
async def test_those_outside_see_the_attempt_that_won(stage: Stage) -> None:
    """Sentry and its kin look at the route in the scope that they have passed on."""
    endpoint, seen_outside, states = Endpoint(stage, 1), [], []

    async def carried(request: Request) -> Any:
        request.state.mine = request.state.attempt
        return await greenlet_spawn(endpoint)

    class Outside:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            states.append(scope["state"])
            await self.app(scope, receive, send)
            if scope["type"] == "http":
                seen_outside.append((scope["endpoint"], scope["state"]))

    stage.app.add_api_route("/", carried, methods=["POST"])
    stage.install |= {"retry": 2}
    stage.wire()
    stage.app.add_middleware(Outside)
    assert (await stage.ask()).status == 200
    assert seen_outside == [(carried, {"mine": 1})]
    assert seen_outside[0][1] is states[0]


# -- hooks -----------------------------------------------------------------------------------------


async def test_hooks_and_tasks_are_those_of_the_attempt_that_won(stage: Stage, log: Log) -> None:
    """C3: on_commit of one attempt, on_rollback of the others."""
    endpoint = Endpoint(stage, 2)

    def body() -> JSONResponse:
        number = endpoint.attempts + 1
        stage.db.on_commit(log.note(f"stored by {number}"))
        stage.db.on_rollback(log.note(f"undone of {number}"))
        endpoint()
        return JSONResponse({}, background=BackgroundTask(stage.task(log.note(f"task {number}"))))

    stage.route(body)
    stage.install |= {"retry": 2}
    assert (await stage.ask()).status == 200
    assert log == ["undone of 1", "undone of 2", "stored by 3", "task 3"]


@only()
async def test_a_conflict_of_a_hook_is_not_the_requests(stage: Stage) -> None:
    """It comes after COMMIT: the response stays."""

    def fail(db: Both) -> None:
        db.on_commit(stage.task(partial(be_stale, db)))

    endpoint, seen = await served(stage, 9, fail)
    assert (seen.status, seen.items, endpoint.attempts) == (200, ["of attempt 1"], 1)


# -- routes ----------------------------------------------------------------------------------------


@only()
@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize(("retry", "of_route", "attempts"), [(2, 0, 1), (0, 2, 3), (1, 3, 4)])
async def test_a_route_may_say_otherwise(
    stage: Stage, above: bool, retry: int, of_route: int, attempts: int
) -> None:
    """D24: more, fewer or none; above or below `@app.post`."""
    endpoint = Endpoint(stage, 9)
    mark = stage.real.retry_requests(of_route)
    function = db_function(stage, endpoint)
    if above:
        stage.app.add_api_route("/", function, methods=["POST"])
        assert mark(function) is function
    else:
        stage.app.add_api_route("/", mark(function), methods=["POST"])
    stage.install |= {"retry": retry}
    assert (await stage.ask()).status == 500
    assert endpoint.attempts == attempts


def db_function(stage: Stage, body: Callable[[], Any]) -> Any:
    """Return a function of its own, since a mark is left on it."""
    if stage.world.is_async:

        async def carried() -> Any:
            return await greenlet_spawn(body)

        return carried

    def called() -> Any:
        return body()

    return called


@only("inline")
async def test_only_functions_of_routes_are_marked(stage: Stage) -> None:
    """Other things are refused, as is a number that means nothing."""
    with pytest.raises(TypeError, match="a route's function is decorated"):
        stage.real.retry_requests(1)(None)
    with pytest.raises(ValueError, match="retry_requests must be 0 or more, not -1"):
        stage.real.retry_requests(-1)


@only("inline")
async def test_without_retry_nothing_is_put_in_between(stage: Stage) -> None:
    """A request pays nothing for what is not used: its messages and `state` are the server's."""
    passed: list[Any] = []
    message = {"type": "http.request", "body": b"", "more_body": False}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.extend([scope["state"], await receive()])

    async def receive() -> Any:
        return message

    async def send(message: Any) -> None: ...

    scope = http_scope("GET", "/")
    state = scope["state"]
    await DBSessionMiddleware(app)(scope, receive, send)
    assert passed[0] is state
    assert passed[1] is message


@only("inline")
async def test_a_later_install_may_ask_for_retries(stage: Stage) -> None:
    """Two databases share one middleware, whichever of them asks."""
    stage.wire()
    stage.install = {"retry": 1}
    stage.is_wired = False
    endpoint, seen = await served(stage, conflicts=1, retry=1)
    assert (seen.status, endpoint.attempts) == (200, 2)


@only("inline")
async def test_a_late_sender_of_a_failed_attempt_is_refused(stage: Stage) -> None:
    """A task that an attempt has left behind cannot answer in the place of the next."""
    late: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not late:
            late.append(send)
            raise StaleDataError
        with pytest.raises(Exception, match="is being done again"):
            await JSONResponse({"late": True})(scope, receive, late[0])
        await JSONResponse({"late": False})(scope, receive, send)

    answer = await ask(DBSessionMiddleware(app, retry=1), "POST", "/")
    assert answer.body == b'{"late":false}'


# -- who wants to know -----------------------------------------------------------------------------


class Told:
    """What `before_retry` was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, type[BaseException], int | None]] = []

    def __call__(self, scope: Any, error: BaseException, response: Any) -> bool:
        """Note it; the scope is still that of the attempt that failed."""
        status = None if response is None else response["status"]
        self.calls.append((scope["path"], scope["state"]["attempt"], type(error), status))
        return True  # which is nobody's business

    async def awaited(self, *told: Any) -> None:
        """Note it, too."""
        await asyncio.sleep(0)
        self(*told)


@pytest.mark.parametrize("awaited", [False, True])
async def test_who_asks_for_it_is_told_before_each_retry(stage: Stage, awaited: bool) -> None:
    """D25: with the request, the error, and no response, for none was made."""
    told = Told()
    stage.install |= {"before_retry": told.awaited if awaited else told}
    await served(stage, conflicts=9)
    path = http_scope("POST", "/")["path"]
    assert told.calls == [(path, 0, StaleDataError, None), (path, 1, StaleDataError, None)]


@pytest.mark.parametrize("plain", [False, True])
async def test_the_discarded_response_is_told(stage: Stage, plain: bool) -> None:
    """D25: what a handler has made of the error."""
    told = Told()
    stage.install |= {"before_retry": told}
    handle(stage.app, StaleDataError, 409, plain=plain)
    _, seen = await served(stage, conflicts=1)
    assert seen.status == 200
    assert [status for *_, status in told.calls] == [409]


async def test_without_a_retry_nobody_is_told(stage: Stage) -> None:
    """Neither of a success, nor of a failure that is the answer."""
    told = Told()
    stage.install |= {"before_retry": told}
    await served(stage, conflicts=0)

    def fail(db: Both) -> None:
        raise LookupError

    stage.route(Endpoint(stage, 1, fail), "/other")
    assert (await stage.ask("POST", "/other")).status == 500
    assert told.calls == []


async def test_a_failure_of_who_is_told_ends_the_request(stage: Stage) -> None:
    """D26: nothing of it is left behind, in the cookie session neither."""
    endpoint = Endpoint(stage, 1)
    sessions: list[Any] = []

    def body(request: Request) -> int:
        sessions.append(request.session)
        request.session["paid"] = True
        return endpoint()

    def fail(*told: Any) -> None:
        raise LookupError

    route_with_request(stage, body)
    stage.install |= {"retry": 2, "before_retry": fail}
    stage.wire()
    stage.app.add_middleware(SessionMiddleware, secret_key="secret")
    seen = await stage.ask()
    assert (type(seen.answer.error), endpoint.attempts) == (LookupError, 1)
    assert (stage.world.items(), sessions) == ([], [{}])
    await stage.check_clean()
