"""The header `Idempotency-Key`: a request is done once, and answered as the first time."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.util import greenlet_spawn
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from dbscope import ConfigurationError, Database
from dbscope.once import Idempotency, store
from dbscope.once import requests as keyed
from dbscope.once.idempotency import parsed
from dbscope.scopes.routes import Routes
from tests.asgi import http_scope
from tests.once.conftest import PLAIN, keys
from tests.scopes.stage import (
    ALONE,
    AROUND,
    INSIDE,
    SERVERS,
    Seen,
    Stage,
    Trouble,
    eventually,
    handle,
    only,
)
from tests.worlds import needs_late_check

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("once", "nothing_asked")]
simply = only(places=(ALONE,))


@pytest.fixture
def nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests' routes have asked for what this one's have not."""
    monkeypatch.setattr(Routes, "around", None)
    monkeypatch.setattr(keyed.routes.Asked, "required", False)


async def ask(
    stage: Stage, key: str | None = "k", body: bytes = b"", path: str = "/", **how: Any
) -> Seen:
    """Send a request with a key; what the server would log is raised."""
    given = [] if key is None else [(b"Idempotency-Key", key.encode())]
    given += how.pop("headers", [])
    seen = await stage.ask(path=path, headers=given, body=[body], **how)
    if seen.answer.error is not None:
        raise seen.answer.error
    return seen


def problem(seen: Seen) -> dict[str, Any]:
    """Return the problem details of an answer."""
    assert seen.answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = json.loads(seen.answer.body)
    assert told["status"] == seen.status
    return told


def storing(stage: Stage, path: str = "/", answer: Callable[[int], Any] = lambda n: n, **kw: Any):
    """Add a route that stores an item, and answers by how often it was called."""
    calls: list[int] = []

    def body() -> Any:
        calls.append(len(calls) + 1)
        stage.insert(f"item {path} {len(calls)}")
        return answer(len(calls))

    endpoint = stage.route(body, path, **kw)
    stage.install.setdefault("idempotency", True)
    return calls, endpoint


async def test_a_repeated_request_is_answered_as_the_first_time(stage: Stage) -> None:
    """Status, body and headers are the same; nothing is done, and nothing else is stored."""
    calls, _ = storing(
        stage, answer=lambda n: JSONResponse({"n": n, "ä": 1}, 201, {"Location": "/items/1"})
    )
    first, again = await ask(stage), await ask(stage)
    assert first.status == again.status == 201
    assert first.answer.body == again.answer.body
    assert again.answer.headers.pop("idempotent-replayed") == "true"
    assert again.answer.headers["location"] == "/items/1"
    assert "idempotent-replayed" not in first.answer.headers
    assert (calls, stage.world.items()) == ([1], ["item / 1"])
    assert keys(stage.world.look) == ["http::k"]


async def test_the_answer_is_stored_before_it_leaves(stage: Stage) -> None:
    """In the transaction of the request: another client sees both when the status leaves."""
    storing(stage)
    seen = await ask(stage)
    assert seen.items == ["item / 1"]
    assert keys(stage.world.look) == ["http::k"]


async def test_without_the_header_nothing_changes(stage: Stage) -> None:
    """It is done each time."""
    calls, _ = storing(stage)
    for _ in range(2):
        await ask(stage, None)
    assert (calls, keys(stage.world.look)) == ([1, 2], [])


async def test_what_was_rolled_back_is_done_again(stage: Stage) -> None:
    """An answer of 400 or above, or an error, leaves no trace."""
    ways = iter(["error", "status", "exception", "well"])
    calls: list[str] = []

    def body() -> Any:
        stage.insert("a")
        calls.append(next(ways))
        if calls[-1] == "error":
            raise Trouble
        if calls[-1] == "exception":
            raise HTTPException(409, "no")
        return JSONResponse({}, 400 if calls[-1] == "status" else 201)

    stage.route(body)
    stage.install = {"idempotency": True}
    with pytest.raises(Trouble):
        await ask(stage)
    assert [(await ask(stage)).status for _ in range(4)] == [400, 409, 201, 201]
    assert stage.world.items() == ["a"]
    assert calls == ["error", "status", "exception", "well"]


@simply
async def test_what_is_kept_is_answered_again_whatever_its_status(stage: Stage) -> None:
    """`db.keep(response)`: the answer belongs to what was stored."""
    calls, _ = storing(stage, answer=lambda n: stage.real.keep(JSONResponse({"n": n}, 403)))
    first, again = await ask(stage), await ask(stage)
    assert (first.status, again.status, first.answer.body) == (403, 403, again.answer.body)
    assert calls == [1]


@needs_late_check
async def test_a_commit_that_fails_leaves_no_trace(stage: Stage) -> None:
    """The client has the answer of the application's handler, and may try again."""
    bad = [True]

    def body() -> str:
        if bad.pop() if bad else False:
            stage.insert_orphan()
        stage.insert("a")
        return "done"

    stage.route(body)
    handle(stage.app, IntegrityError, 409)
    stage.install = {"idempotency": True}
    answers = [await ask(stage) for _ in range(3)]
    assert [seen.status for seen in answers] == [409, 200, 200]
    assert stage.world.items() == ["a"]


async def test_another_request_with_the_same_key_is_a_422(stage: Stage) -> None:
    """Another body, path or query; the first one's answer stays."""
    calls, _ = storing(stage)
    storing(stage, "/other")
    await ask(stage, body=b"1")
    for request in ({"body": b"2"}, {"path": "/other"}):
        seen = await ask(stage, **request)
        assert seen.status == 422
        assert problem(seen)["title"] == "Idempotency-Key is already used"
    assert (await ask(stage, body=b"1")).answer.body == b"1"
    assert (calls, stage.world.items()) == ([1], ["item / 1"])


@simply
@pytest.mark.parametrize(
    "key", ["", '"', '"a', 'a"b', "a b", "a,b", '""', "a" * 256, '"a\\b"', "ä", " "]
)
async def test_a_key_that_cannot_be_read_is_a_400(stage: Stage, key: str) -> None:
    """It is a text of RFC 8941, or a word, as many write it."""
    calls, _ = storing(stage)
    seen = await ask(stage, key)
    assert (seen.status, calls) == (400, [])
    assert problem(seen)["title"] == "Idempotency-Key cannot be read"


def test_a_key_may_be_quoted_or_not() -> None:
    """RFC 8941, 3.3.3."""
    given = ['"a"', "a", '"a b,c"', '"\\"\\\\"', '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "a=/+"]
    assert [parsed(each) for each in given] == [
        *("a", "a", "a b,c", '"\\', "8e03978e-40d5-43dd-bc93-6894a57f9324", "a=/+")
    ]


@simply
async def test_two_keys_are_none(stage: Stage) -> None:
    """Nobody knows which one is meant."""
    storing(stage)
    assert (await ask(stage, headers=[(b"idempotency-key", b"b")])).status == 400


@simply
async def test_a_key_may_be_required(stage: Stage) -> None:
    """For the application, or for one route, whose decorator may stand where it likes."""
    _, endpoint = storing(stage)
    storing(stage, "/free")
    stage.real.idempotent(required=True)(endpoint)
    assert problem(await ask(stage, None))["title"] == "Idempotency-Key is missing"
    assert (await ask(stage, None, path="/free")).status == 200
    assert [(await ask(stage)).answer.body for _ in range(2)] == [b"1", b"1"]


@simply
async def test_only_routes_that_ask_for_it_have_keys(stage: Stage) -> None:
    """Without `install(idempotency=...)`; with it also those that are no POST."""
    calls, endpoint = storing(stage, method="PUT")
    others, _ = storing(stage, "/other", method="PUT")
    stage.install = {}
    stage.real.idempotent(endpoint)
    for _ in range(2):
        await ask(stage, method="PUT")
        await ask(stage, method="PUT", path="/other")
    assert (calls, others) == ([1], [1, 2])


@pytest.mark.parametrize("wait", [False, True])
async def test_while_it_is_under_way_it_is_a_409_or_is_waited_for(stage: Stage, wait: bool) -> None:
    """Of several at once one does it."""
    stage.install = {"idempotency": Idempotency(wait=wait)}
    calls, _ = storing(stage)
    await stage.warm_up()
    answers = await asyncio.gather(*(ask(stage) for _ in range(5)))
    statuses = sorted(seen.status or 0 for seen in answers)
    assert (calls, stage.world.items()) == ([1], ["item / 1"])
    if wait:
        assert statuses == [200] * 5
    else:
        assert set(statuses) <= {200, 409}
        refused = [seen for seen in answers if seen.status == 409]
        assert {seen.answer.headers["retry-after"] for seen in refused} <= {"1"}
    assert (await ask(stage)).answer.body == b"1"
    assert keyed.at_work == set()


@only(*SERVERS, places=(ALONE,))
async def test_another_process_that_is_doing_it_is_a_409(stage: Stage) -> None:
    """As far as the database can tell without waiting: PostgreSQL and MariaDB."""
    storing(stage)
    end = await run_in_threadpool(hold, stage)
    try:
        assert (await ask(stage)).status == 409
        assert stage.world.items() == []
    finally:
        await run_in_threadpool(end)
    assert (await ask(stage)).status == 200


def hold(stage: Stage) -> Callable[[], None]:
    """Be another process that is doing what the key stands for, until it is called."""
    url = stage.world.look.url
    engine = create_engine(url.set(drivername=PLAIN[url.get_backend_name()]))
    session = Session(engine)
    claimed = store.Claim("http::k", None, Idempotency().keep)
    assert store.claim(session, claimed, wait=False) is None

    def end() -> None:
        session.rollback()
        session.close()
        engine.dispose()

    return end


@simply
async def test_each_user_has_keys_of_its_own(stage: Stage) -> None:
    """By the header Authorization, of which nothing is stored, or by what the application says."""
    calls, _ = storing(stage)
    for who in (b"Bearer secret-1", b"Bearer secret-2", b"Bearer secret-1"):
        assert (await ask(stage, headers=[(b"authorization", who)])).status == 200
    assert (await ask(stage)).status == 200
    assert calls == [1, 2, 3]
    assert "secret" not in " ".join(keys(stage.world.look))


@simply
async def test_the_application_says_who_the_user_is(stage: Stage) -> None:
    """By a function of the request, which may wait."""

    async def user(request: Any) -> str | None:
        return request.headers.get("x-user") or None

    stage.install = {"idempotency": Idempotency(user=user)}
    calls, _ = storing(stage)
    for who, key in ((b"ann", "k"), (b"a:b", "c"), (b"a", "b:c"), (b"", "k"), (b"ann", "k")):
        await ask(stage, key, headers=[(b"x-user", who)])
    assert calls == [1, 2, 3, 4]
    assert set(keys(stage.world.look)) == {"http::k", "http:a%3Ab:c", "http:a:b:c", "http:ann:k"}


@simply
async def test_a_client_that_goes_away_before_it_has_sent_all_claims_nothing(
    stage: Stage,
) -> None:
    """The application hears of it as ever."""
    heard: list[Any] = []

    async def endpoint(request: Any) -> Response:
        try:
            await request.body()
        except ClientDisconnect as error:
            heard.append(error)
        return Response("gone")

    stage.app.router.routes.append(Route("/", endpoint, methods=["POST"]))
    stage.install = {"idempotency": True}
    stage.wire()
    scope = http_scope("POST", "/")
    scope["headers"].append((b"idempotency-key", b"k"))
    pieces = iter(
        [
            {"type": "http.request", "body": b"a", "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> Any:
        return next(pieces)

    async def send(message: Any) -> None:
        """Be gone."""

    await stage.app(scope, receive, send)
    assert len(heard) == 1
    assert keys(stage.world.look) == []


@simply
async def test_bodies_have_a_limit(stage: Stage) -> None:
    """Of the request: 413. Of the answer: it is done once, and cannot be repeated."""
    stage.install = {"idempotency": Idempotency(body_limit=10)}
    calls, _ = storing(stage, answer=lambda n: Response(b"x" * 11))
    assert problem(await ask(stage, body=b"x" * 11))["title"] == "The content is too large"
    assert (await ask(stage, body=b"x" * 10)).answer.body == b"x" * 11
    again = await ask(stage, body=b"x" * 10)
    assert problem(again)["title"] == "The answer for this Idempotency-Key was not kept"
    assert (again.status, calls) == (409, [1])


async def test_a_stream_is_never_held(stage: Stage) -> None:
    """It is done once, too, and is not repeated."""

    def chunks():
        yield "a"
        yield "b"

    calls, _ = storing(stage, answer=lambda n: StreamingResponse(stage.stream(chunks)))
    assert (await ask(stage)).answer.body == b"ab"
    assert ((await ask(stage)).status, calls) == (409, [1])


@simply
async def test_files_and_answers_without_a_body_are_repeated(stage: Stage, tmp_path: Any) -> None:
    """Whatever pieces the body comes in."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100_000)
    kinds = {"/file": lambda n: FileResponse(file), "/nothing": lambda n: Response(status_code=204)}
    for path, answer in kinds.items():
        calls, _ = storing(stage, path, answer)
        first, again = await ask(stage, path, path=path), await ask(stage, path, path=path)
        assert (first.status, first.answer.body) == (again.status, again.answer.body)
        assert calls == [1]


@simply
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_rollback_by_hand_takes_no_key_away(stage: Stage, streamed: bool) -> None:
    """What is stored in the end is stored with the key, though the row of before is gone."""
    calls: list[int] = []

    def body() -> Any:
        calls.append(1)
        stage.insert("customer")
        stage.db.session.rollback()
        stage.insert(f"payment {len(calls)}")
        return StreamingResponse(iter([b"a", b"b"])) if streamed else len(calls)

    stage.route(body)
    stage.install = {"idempotency": True}
    statuses = [(await ask(stage)).status for _ in range(2)]
    assert statuses == [200, 409 if streamed else 200]
    assert (calls, stage.world.items()) == ([1], ["payment 1"])
    assert keys(stage.world.look) == ["http::k"]


@simply
async def test_a_request_that_commits_by_hand_and_fails_is_told_so(stage: Stage) -> None:
    """What it has stored is stored, so it is not done again; and nothing is said of a stream."""

    def body() -> None:
        stage.insert("first half")
        stage.db.session.commit()
        stage.insert("second half")
        raise Trouble

    stage.route(body)
    stage.install = {"idempotency": True}
    with pytest.raises(Trouble):
        await ask(stage)
    again = await ask(stage)
    assert again.status == 409
    assert (
        problem(again)["title"] == "The request with this Idempotency-Key was not done to its end"
    )
    assert "stream" not in problem(again)["detail"]
    assert stage.world.items() == ["first half"]


@pytest.mark.parametrize("keep", [timedelta.max, timedelta(), 1])
def test_a_time_that_nothing_can_be_kept_for_is_refused_at_the_start(keep: Any) -> None:
    """And not with the first key that comes."""
    with pytest.raises(ConfigurationError, match="keep must be a"):
        Idempotency(keep=keep)


@simply
@pytest.mark.parametrize("also", [None, "Bearer a"])
async def test_whose_key_it_is_is_not_guessed_from_cookies(stage: Stage, also: str | None) -> None:
    """Two users of a site with cookies would share their keys, and one get the other's answer."""
    calls, _ = storing(stage)
    headers = [(b"cookie", b"session=a")]
    if also is not None:
        headers.append((b"authorization", also.encode()))
        assert (await ask(stage, headers=headers)).status == 200
        return
    with pytest.raises(ConfigurationError, match=r"Idempotency\(user="):
        await ask(stage, headers=headers)
    assert (calls, stage.world.items(), keys(stage.world.look)) == ([], [], [])


@simply
async def test_cookies_are_not_stored(stage: Stage) -> None:
    """Nor anything else that is for one client at one moment, unless that is chosen."""

    def answer(n: int) -> Response:
        headers = {"Set-Cookie": "session=secret", "X-Request": "1", "ETag": "e"}
        return Response("x", headers=headers)

    storing(stage, answer=answer)
    assert (await ask(stage)).answer.headers["set-cookie"] == "session=secret"
    again = await ask(stage)
    assert {"set-cookie", "x-request"}.isdisjoint(again.answer.headers)
    assert again.answer.headers["etag"] == "e"


async def test_the_body_is_there_for_the_endpoint(stage: Stage) -> None:
    """Though it was read before, in however many pieces."""

    class Order(BaseModel):
        name: str

    def store(order: Order) -> str:
        stage.insert(order.name)
        return order.name

    if stage.world.is_async:

        @stage.app.post("/")
        async def carried(order: Order) -> Any:
            return await greenlet_spawn(store, order)
    else:
        stage.app.post("/")(store)
    stage.install = {"idempotency": True}
    for _ in range(2):
        key, kind = (b"idempotency-key", b"k"), (b"content-type", b"application/json")
        pieces = [b'{"na', b'me": ', b'"cup"}']
        seen = await stage.ask(headers=[key, kind], body=pieces)
        assert (seen.status, seen.answer.body) == (200, b'"cup"')
    assert stage.world.items() == ["cup"]


@only(places=AROUND)
async def test_the_middlewares_of_the_application_see_each_request_and_answer(
    stage: Stage,
) -> None:
    """Compression may be other for the second client, and is not stored."""
    storing(stage, answer=lambda n: Response(b"x" * 5000))
    stage.app.add_middleware(GZipMiddleware)
    plain = await ask(stage)
    packed = await ask(stage, headers=[(b"accept-encoding", b"gzip")])
    assert "content-encoding" not in plain.answer.headers
    assert packed.answer.headers["content-encoding"] == "gzip"


def inner(stage: Stage, kind: str) -> str:
    """Put the route of the test into a router, or an application, and return its path."""
    outer, (route,) = stage.app, [r for r in stage.app.routes if getattr(r, "path", "") == "/"]
    stage.app = FastAPI()
    if kind == "starlette":
        stage.app.router.routes.append(outer.router.routes[-1])
        return "/"
    if kind == "mounted":
        stage.app.mount("/sub", outer)
        return "/sub/"
    router: Any = APIRouter(prefix="/a")
    router.add_api_route("/x", route.endpoint, methods=["POST"])  # type: ignore[attr-defined]
    if kind == "nested":
        around = APIRouter(prefix="/b")
        around.include_router(router)
        stage.app.include_router(around, prefix="/c")
        return "/c/b/a/x"
    stage.app.include_router(router)
    return "/a/x"


@simply
@pytest.mark.parametrize("kind", ["included", "nested", "mounted"])
async def test_a_route_is_found_wherever_it_is(stage: Stage, kind: str) -> None:
    """In routers that are included, and in applications that are mounted."""
    calls, endpoint = storing(stage)
    stage.install = {}
    stage.real.idempotent(endpoint)
    path = inner(stage, kind)
    assert [(await ask(stage, path=path)).answer.body for _ in range(2)] == [b"1", b"1"]
    assert calls == [1]


@only("inline", "sqlite3", places=(ALONE,))
async def test_a_route_of_starlette_has_keys(stage: Stage) -> None:
    """Its endpoint is given the request, and returns the response."""
    calls: list[int] = []

    async def endpoint(request: Any) -> Response:
        calls.append(1)
        return Response(await request.body())

    stage.app.router.routes.append(Route("/", endpoint, methods=["POST"]))
    stage.install = {"idempotency": True}
    if not stage.world.is_async:
        assert isinstance(stage.real, Database)
    assert [(await ask(stage, body=b"x")).answer.body for _ in range(2)] == [b"x", b"x"]
    assert calls == [1]


@simply
async def test_a_route_that_autocommits_cannot_have_keys(stage: Stage) -> None:
    """The key would be stored apart from the work."""
    calls, endpoint = storing(stage)
    stage.real.non_atomic_requests(endpoint)
    stage.wire()
    with pytest.raises(ConfigurationError, match="autocommits: the key"):
        await ask(stage)
    assert calls == []


@simply
async def test_what_is_not_routed_is_left_to_the_router(stage: Stage) -> None:
    """404 and 405, as they are."""
    storing(stage)
    assert (await ask(stage, path="/nowhere")).status == 404
    assert (await ask(stage, method="PATCH")).status == 405


@simply
async def test_a_request_that_is_done_again_after_a_conflict_keeps_its_key(
    stage: Stage,
) -> None:
    """Each attempt claims it anew, and the one that wins has it."""
    tries: list[int] = []

    def body() -> int:
        tries.append(1)
        stage.insert("a")
        if len(tries) == 1:
            raise StaleDataError
        return len(tries)

    stage.route(body)
    stage.install = {"idempotency": True, "retry": 2}
    assert [(await ask(stage)).answer.body for _ in range(2)] == [b"2", b"2"]
    assert (stage.world.items(), len(tries)) == (["a"], 2)


@only(places=(ALONE, INSIDE))
async def test_background_tasks_run_once(stage: Stage) -> None:
    """They belong to the request that was done, and not to its repetition."""
    ran: list[int] = []
    task = stage.task(lambda: ran.append(1))
    storing(stage, answer=lambda n: JSONResponse({}, background=BackgroundTask(task)))
    for _ in range(2):
        await ask(stage)
    await eventually(lambda: ran == [1])


@simply
async def test_what_dependencies_find_is_part_of_what_is_not_done_again(stage: Stage) -> None:
    """A repetition does not come to them: who may ask is known by `user`."""
    seen: list[int] = []

    def dependency() -> None:
        seen.append(1)

    calls, _ = storing(stage, dependencies=[Depends(dependency)])
    for _ in range(2):
        await ask(stage)
    assert (seen, calls) == ([1], [1])


def test_settings_that_there_are_not_are_refused(tmp_path: Any) -> None:
    """When the application is made."""
    db = Database(f"sqlite:///{tmp_path}/a.db")
    with pytest.raises(TypeError, match="idempotency must be True"):
        db.install(FastAPI(), idempotency="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword"):
        db.idempotent(requierd=True)(lambda: None)
    with pytest.raises(TypeError, match="a route's function"):
        db.idempotent(1)  # type: ignore[type-var]
