"""A websocket: the connection autocommits, each message may be a transaction, nothing is held."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
import pytest
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from sqlalchemy import select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.util import greenlet_spawn
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.routing import WebSocketRoute

from dbscope import (
    ClientTimeout,
    ConcurrentUse,
    ConfigurationError,
    DatabaseUnavailable,
    ReadOnlyViolation,
    ScopeClosed,
    UnexpectedRollback,
)
from tests.scopes.stage import (
    ALONE,
    ASYNC,
    ASYNC_SERVERS,
    HOW,
    SERVERS,
    Cancelling,
    Stage,
    Trouble,
    only,
    swallowed,
    work,
)
from tests.sockets import Socket
from tests.worlds import Child, Item, needs_late_check

pytestmark = pytest.mark.anyio

Serve = Callable[[WebSocket], Any]


def route(stage: Stage, endpoint: Serve, path: str = "/") -> None:
    """Make it the endpoint, whatever its parameter is annotated with."""

    async def socket(websocket: WebSocket) -> None:
        await endpoint(websocket)

    stage.app.add_api_websocket_route(path, socket)
    stage.wire()


def talk(stage: Stage, of: Callable[[str], Any]) -> Serve:
    """Return an endpoint that does this about each message, and says so."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            name = await websocket.receive_text()
            await work(stage, partial(of, name))
            await websocket.send_text(f"did {name}")

    return endpoint


async def held(stage: Stage) -> tuple[int, bool]:
    """Return how many connections are out, and whether the lock to write is free."""

    def look() -> tuple[int, bool]:
        free = not stage.world.is_sqlite or stage.world.look.write_lock_is_free()
        return stage.real.stats()["pool_checked_out"], free

    return await anyio.to_thread.run_sync(look)


async def items(stage: Stage) -> list[str]:
    """Return what is stored, without blocking the loop."""
    return await anyio.to_thread.run_sync(stage.world.items)


def add(stage: Stage, name: str) -> None:
    """Add an item to the connection's session, and send nothing."""
    stage.real.session.add(Item(name=name))


# -- the connection --------------------------------------------------------------------------------


@only()
async def test_each_statement_is_a_transaction_and_nothing_is_held_after_it(stage: Stage) -> None:
    """Django's autocommit: a socket may stay open for a day."""
    route(stage, talk(stage, stage.insert))
    async with Socket(stage.app) as socket:
        await socket.next()
        for number in range(3):
            assert await socket.ask(str(number)) == f"did {number}"
            assert await items(stage) == [str(each) for each in range(number + 1)]
            assert await held(stage) == (0, True)
    assert socket.error is None or isinstance(socket.error, WebSocketDisconnect)


@only()
@pytest.mark.parametrize("before", ["accept", "send", "receive", "close", "the end"])
async def test_what_is_pending_is_stored_before_the_other_end_is_told(
    stage: Stage, before: str
) -> None:
    """Or waited for: it would stay in memory for as long as the other end is silent."""
    seen: list[tuple[str, list[str]]] = []

    async def on_send(message: dict[str, Any]) -> None:
        seen.append((message["type"].partition(".")[2], await items(stage)))

    async def endpoint(websocket: WebSocket) -> None:
        if before != "accept":
            await websocket.accept()
        add(stage, "a")
        match before:
            case "accept":
                await websocket.accept()
            case "send":
                await websocket.send_text("stored")
            case "receive":
                await websocket.receive_text()
                assert await items(stage) == ["a"]
            case "close":
                await websocket.close()

    route(stage, endpoint)
    async with Socket(stage.app, on_send=on_send) as socket:
        socket.tell("go on")
        await socket.end()
    assert socket.error is None
    if before in ("accept", "send", "close"):
        assert seen[-1] == (before, ["a"])
    assert await items(stage) == ["a"]


def orphan(stage: Stage) -> None:
    """Add what COMMIT refuses."""
    stage.real.session.add(Child(item_id=999))


def double(stage: Stage) -> None:
    """Add what the flush refuses."""
    add(stage, "there")


FAILING = [
    pytest.param(double, id="flush"),
    pytest.param(orphan, id="commit", marks=needs_late_check),
]


@only()
@pytest.mark.parametrize("fails", FAILING)
async def test_a_connection_whose_work_is_not_stored_is_not_accepted(
    stage: Stage, fails: Callable[[Stage], None]
) -> None:
    """The server refuses it, as it does for each error before; the error is its log's."""

    async def endpoint(websocket: WebSocket) -> None:
        fails(stage)
        await websocket.accept()

    stage.world.look.execute("INSERT INTO item (name) VALUES ('there')")
    route(stage, endpoint)
    async with Socket(stage.app) as socket:
        await socket.end()
    assert (socket.messages, type(socket.error)) == ([], IntegrityError)
    assert await items(stage) == ["there"]


@only()
@pytest.mark.parametrize("fails", FAILING)
@pytest.mark.parametrize("when", ["sending", "closing", "at the end"])
async def test_a_connection_whose_work_is_not_stored_is_closed_with_1011(
    stage: Stage, fails: Callable[[Stage], None], when: str
) -> None:
    """Not with 1000, and nothing is said before."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        fails(stage)
        if when == "sending":
            await websocket.send_text("stored")
        elif when == "closing":
            await websocket.close()

    stage.world.look.execute("INSERT INTO item (name) VALUES ('there')")
    route(stage, endpoint)
    async with Socket(stage.app) as socket:
        await socket.end()
    assert [each["type"] for each in socket.messages] == ["websocket.accept", "websocket.close"]
    assert (socket.code, type(socket.error)) == (1011, IntegrityError)
    assert await items(stage) == ["there"]


@only()
@pytest.mark.parametrize("plain", [False, True], ids=["async-def", "def"])
@pytest.mark.parametrize("when", ["sending", "at the end"])
async def test_the_application_may_handle_the_failure(
    stage: Stage, when: str, *, plain: bool
) -> None:
    """By its own handler for the error, as for requests: it closes with a code of its own."""

    async def close(websocket: WebSocket, error: Exception) -> None:
        await websocket.close(4009)

    def close_plainly(websocket: WebSocket, error: Exception) -> None:
        asyncio.run_coroutine_threadsafe(websocket.close(4009), loop).result()

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        double(stage)
        if when == "sending":
            await websocket.send_text("stored")

    loop = asyncio.get_running_loop()
    stage.world.look.execute("INSERT INTO item (name) VALUES ('there')")
    handler: Any = close_plainly if plain else close
    stage.app.add_exception_handler(IntegrityError, handler)
    route(stage, endpoint)
    async with Socket(stage.app) as socket:
        await socket.end()
    assert (socket.code, socket.error) == (4009, None)


@only()
async def test_what_is_pending_when_the_endpoint_fails_is_not_stored(stage: Stage) -> None:
    """Before that, each statement was stored; the other end is told that it failed."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await work(stage, lambda: stage.insert("a"))
        add(stage, "b")
        raise Trouble

    route(stage, endpoint)
    async with Socket(stage.app) as socket:
        await socket.end()
    assert (socket.code, type(socket.error)) == (1011, Trouble)
    assert await items(stage) == ["a"]


@only()
async def test_nor_if_a_handler_has_closed_the_socket_for_it(stage: Stage) -> None:
    """An exception that left the endpoint, whatever became of it."""

    async def close(websocket: WebSocket, error: Exception) -> None:
        await websocket.close(4000)

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        add(stage, "a")
        raise Trouble

    stage.app.add_exception_handler(Trouble, close)  # type: ignore[arg-type]
    route(stage, endpoint)
    async with Socket(stage.app) as socket:
        await socket.end()
    assert (socket.code, socket.error, await items(stage)) == (4000, None, [])


@only(*SERVERS)
@pytest.mark.parametrize("when", ["before", "before, without the extension", "after"])
async def test_where_the_database_is_away_the_other_end_is_told_to_come_again(
    stage: Stage, when: str
) -> None:
    """503 with `Retry-After`, or the code 1013, as for requests."""
    nowhere = make_url(stage.world.url).set(host="127.0.0.1", port=1)
    stage.remake(nowhere.render_as_string(hide_password=False))

    async def endpoint(websocket: WebSocket) -> None:
        if when == "after":
            await websocket.accept()
        await work(stage, lambda: stage.db.scalar(text("SELECT 1")))

    route(stage, endpoint)
    denial = {} if "without" in when else {"websocket.http.response": {}}
    async with Socket(stage.app, extensions=denial) as socket:
        await socket.end()
    if when == "before":
        start, _ = socket.messages
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
        assert (b"retry-after", b"1") in start["headers"]
        assert socket.error is None
    else:
        assert isinstance(socket.error, DatabaseUnavailable)
        assert socket.code == (1013 if when == "after" else None)


@only()
async def test_a_hook_that_must_be_awaited_runs_before_the_next_message(stage: Stage) -> None:
    """Outside of a transaction a plain one runs at once; neither waits for the end of the day."""
    ran: list[str] = []

    async def later() -> None:
        ran.append("async")

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        stage.real.on_commit(lambda: ran.append("plain"))
        if stage.world.is_async:
            stage.real.on_commit(later)
        await websocket.send_text(" ".join(ran))
        await websocket.receive_text()

    route(stage, endpoint)
    async with Socket(stage.app) as socket:
        await socket.next()
        await socket.next()
        assert ran == ["plain", "async"] if stage.world.is_async else ["plain"]


# -- its messages ----------------------------------------------------------------------------------


def in_scope(stage: Stage, name: str) -> None:
    """Do the work of a message in a scope of its own."""
    with stage.db.scope():
        stage.insert(name)
        stage.insert(f"{name} too")
        if name == "bad":
            raise Trouble


def in_block(stage: Stage, name: str) -> None:
    """Do it in a block of the connection's session."""
    with stage.db.atomic():
        stage.insert(name)
        stage.insert(f"{name} too")
        if name == "bad":
            raise Trouble


def decorated(stage: Stage, name: str) -> None:
    """Do it in a function of the application that is decorated."""

    def body() -> None:
        stage.insert(name)
        stage.insert(f"{name} too")
        if name == "bad":
            raise Trouble

    stage.db.decorated(stage.real.atomic, body)()


MESSAGES = [in_scope, in_block, decorated]


@only()
@pytest.mark.parametrize("of", MESSAGES)
async def test_each_message_is_a_transaction(stage: Stage, of: Any) -> None:
    """D20: stored before the other end is told; one that fails takes only its own with it."""
    stored: list[list[str]] = []

    def message(name: str) -> None:
        with swallowed(Trouble) if name == "bad" else nullcontext():
            of(stage, name)

    async def on_send(message: dict[str, Any]) -> None:
        stored.append(await items(stage))

    route(stage, talk(stage, message))
    async with Socket(stage.app, on_send=on_send) as socket:
        await socket.next()
        for name in ("a", "bad", "b"):
            assert await socket.ask(name) == f"did {name}"
            assert await held(stage) == (0, True)
    assert stored == [[], ["a", "a too"], ["a", "a too"], ["a", "a too", "b", "b too"]]


@only()
@pytest.mark.parametrize("of", MESSAGES)
async def test_a_message_that_fails_is_rolled_back_and_ends_the_connection(
    stage: Stage, of: Any
) -> None:
    """Unless the application handles it; what was stored before stays."""
    route(stage, talk(stage, partial(of, stage)))
    async with Socket(stage.app) as socket:
        await socket.next()
        assert await socket.ask("a") == "did a"
        assert await socket.ask("bad") is None
        await socket.end()
    assert (socket.code, type(socket.error)) == (1011, Trouble)
    assert await items(stage) == ["a", "a too"]


@needs_late_check
@only()
@pytest.mark.parametrize("how", ["scope", "atomic"])
async def test_a_message_whose_commit_fails_is_answered_with_1011(stage: Stage, how: str) -> None:
    """No success leaves."""

    def message(name: str) -> None:
        with getattr(stage.db, how)():
            stage.insert_orphan()

    route(stage, talk(stage, message))
    async with Socket(stage.app) as socket:
        await socket.next()
        assert await socket.ask("a") is None
        await socket.end()
    assert (socket.code, type(socket.error)) == (1011, IntegrityError)


@only()
async def test_a_swallowed_error_in_a_message_is_no_success(stage: Stage) -> None:
    """As in a request."""

    def message(name: str) -> None:
        with stage.db.scope():
            stage.insert("a")
            with swallowed(IntegrityError):
                stage.insert("a")

    route(stage, talk(stage, message))
    async with Socket(stage.app) as socket:
        await socket.next()
        assert await socket.ask("a") is None
        await socket.end()
    assert (socket.code, type(socket.error)) == (1011, UnexpectedRollback)
    assert await items(stage) == []


@only()
async def test_a_scope_of_a_message_sees_what_others_have_stored(stage: Stage) -> None:
    """It has a session of its own; that of the connection remembers its objects, as sessions do."""
    kept: list[Any] = []

    def message(name: str) -> None:
        if name == "connection":
            kept.append(stage.db.session.get(Item, 1))
            kept.append(kept[-1].name)
        else:
            with stage.db.scope():
                kept.append(stage.db.session.get(Item, 1).name)

    stage.world.look.execute("INSERT INTO item (name) VALUES ('old')")
    route(stage, talk(stage, message))
    async with Socket(stage.app) as socket:
        await socket.next()
        await socket.ask("connection")
        await anyio.to_thread.run_sync(
            stage.world.look.execute, "UPDATE item SET name = 'new' WHERE id = 1"
        )
        await socket.ask("message")
        await socket.ask("connection")
    assert [kept[1], kept[2], kept[4]] == ["old", "new", "old"]
    assert kept[0] is kept[3]


@only(*ASYNC)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("of", ["scope", "atomic"])
async def test_a_cancellation_in_the_middle_of_a_message_rolls_it_back(
    stage: Stage, of: str, how: Cancelling
) -> None:
    """As a server does that stops: nothing of it is stored, nothing is left open."""
    begun = asyncio.Event()

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async with getattr(stage.real, of)():
            await greenlet_spawn(stage.insert, "a")
            begun.set()
            await asyncio.Event().wait()

    route(stage, endpoint)

    async def connection() -> None:
        socket = Socket(stage.app)
        try:
            await socket.task
        finally:
            socket.task.cancel()
            await asyncio.gather(socket.task, return_exceptions=True)

    await how.run(connection(), begun.wait)
    assert await items(stage) == []
    assert await held(stage) == (0, True)


@only()
async def test_an_end_that_is_cut_in_the_middle_of_a_message_leaks_nothing(stage: Stage) -> None:
    """The work goes on to its end, which nobody hears of; the next receive says that it is over."""
    told: list[str] = []

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        name = await websocket.receive_text()
        with pytest.raises(WebSocketDisconnect):
            await work(stage, partial(in_scope, stage, name))
            await websocket.receive_text()
        told.append("over")

    route(stage, endpoint)
    async with Socket(stage.app) as socket:
        await socket.next()
        socket.tell("a")
        await socket.hang_up()
    assert (told, socket.error, socket.code) == (["over"], None, None)
    assert await items(stage) == ["a", "a too"]


# -- whoever asks for the session ------------------------------------------------------------------


@only()
async def test_dependencies_have_the_session_of_the_connection(stage: Stage) -> None:
    """FastAPI's, plain and async, and `websocket.state`."""
    same: list[bool] = []
    stage.install["state_key"] = "db"

    def plain() -> Any:
        return stage.real.session

    async def endpoint(
        websocket: WebSocket,
        session: Annotated[Any, Depends(stage.real.get_session)],
        again: Annotated[Any, Depends(plain)],
    ) -> None:
        same.append(session is again is stage.real.session is websocket.state.db)
        await websocket.accept()
        await work(stage, lambda: stage.insert("a"))
        await websocket.close()

    stage.app.add_api_websocket_route("/", endpoint)
    stage.wire()
    async with Socket(stage.app) as socket:
        await socket.end()
    assert (same, socket.code, await items(stage)) == ([True], 1000, ["a"])


@only()
async def test_a_dependency_may_refuse_the_connection(stage: Stage) -> None:
    """What it has stored stays: each statement is a transaction."""

    async def user(websocket: WebSocket) -> None:
        await work(stage, lambda: stage.insert("attempt"))
        raise WebSocketDisconnect(1008)

    async def endpoint(websocket: WebSocket) -> None:
        raise AssertionError("it was called")

    stage.app.add_api_websocket_route("/", endpoint, dependencies=[Depends(user)])
    stage.wire()
    async with Socket(stage.app) as socket:
        await socket.end()
    assert (socket.is_accepted, await items(stage)) == (False, ["attempt"])


@only()
async def test_starlette_alone_is_served_too(stage: Stage) -> None:
    """A function, and a class of Starlette's with a method for each message."""

    async def function(websocket: WebSocket) -> None:
        await talk(stage, partial(in_scope, stage))(websocket)

    class Endpoint(WebSocketEndpoint):
        encoding = "text"

        async def on_receive(self, websocket: WebSocket, data: str) -> None:
            await work(stage, partial(in_block, stage, data))
            await websocket.send_text(f"did {data}")

    app: Any = Starlette(
        routes=[WebSocketRoute("/function", function), WebSocketRoute("/class", Endpoint)]
    )
    stage.real.install(app)
    for path in ("/function", "/class"):
        async with Socket(app, path) as socket:
            await socket.next()
            assert await socket.ask(path) == f"did {path}"
            assert await held(stage) == (0, True)
    assert await items(stage) == ["/function", "/function too", "/class", "/class too"]


@only()
async def test_a_mounted_application_is_a_part_of_the_connection(stage: Stage) -> None:
    """With an `install` of its own: one scope, one session."""
    inner = FastAPI()
    stage.real.install(inner)
    seen: list[Any] = []

    @inner.websocket("/socket")
    async def endpoint(websocket: WebSocket) -> None:
        seen.append(stage.db.session)
        await websocket.accept()
        add(stage, "a")

    stage.app.mount("/sub", inner)
    stage.wire()
    async with Socket(stage.app, "/sub/socket") as socket:
        await socket.end()
    assert (socket.error, await items(stage)) == (None, ["a"])
    with pytest.raises(ScopeClosed, match="the websocket /sub/socket"):
        await work(stage, lambda: seen[0].execute(select(Item)))


@only()
async def test_a_read_only_connection_writes_nothing(stage: Stage) -> None:
    """`db.readonly`, as of a route."""

    @stage.app.websocket("/")
    @stage.real.readonly
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await work(stage, lambda: stage.db.scalar(text("SELECT 1")))
        await work(stage, lambda: stage.insert("a"))

    stage.wire()
    async with Socket(stage.app) as socket:
        await socket.end()
    assert (socket.code, type(socket.error)) == (1011, ReadOnlyViolation)


@only()
async def test_a_connection_is_no_one_transaction(stage: Stage) -> None:
    """Who asks for that is told what to do instead."""

    @stage.app.websocket("/")
    @stage.real.atomic_requests
    async def endpoint(websocket: WebSocket) -> None:
        await work(stage, lambda: stage.insert("a"))

    stage.wire()
    async with Socket(stage.app) as socket:
        await socket.end()
    assert isinstance(socket.error, ConfigurationError)
    assert "each message" in str(socket.error)
    assert await items(stage) == []


# -- tasks of a connection -------------------------------------------------------------------------


@only(*ASYNC_SERVERS)
async def test_two_tasks_of_a_connection_need_a_scope_each(stage: Stage) -> None:
    """One listens and one speaks, as is usual: at once, on one session, is refused."""
    db, refused = stage.real, asyncio.Event()

    async def listen(websocket: WebSocket) -> None:
        async for name in websocket.iter_text():
            async with db.scope():
                await greenlet_spawn(stage.insert, name)
            with pytest.raises(ConcurrentUse):
                await asyncio.gather(
                    db.execute(text(stage.world.sleep(0.1))), db.execute(select(Item))
                )
            refused.set()

    async def speak(websocket: WebSocket) -> None:
        await refused.wait()
        async with db.scope():
            names = (await db.scalars(select(Item.name))).all()
        await websocket.send_text(" ".join(names))

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await asyncio.gather(listen(websocket), speak(websocket))

    route(stage, endpoint)
    async with Socket(stage.app) as socket:
        await socket.next()
        assert await socket.ask("a") == "a"
    assert socket.error is None


@only(*ASYNC)
async def test_another_task_that_waits_stores_nothing_of_this_one(stage: Stage) -> None:
    """It has added one part, and is about to add the next."""
    stored: list[list[str]] = []

    async def listen(websocket: WebSocket) -> None:
        await websocket.receive_text()
        stored.append(await items(stage))

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        add(stage, "a")
        listening = asyncio.create_task(listen(websocket))
        while not stored:
            await asyncio.sleep(0)
            await asyncio.sleep(0.01)
        add(stage, "b")
        await listening

    route(stage, endpoint)
    async with Socket(stage.app) as socket:
        socket.tell("go on")
        await socket.end()
    assert (stored, await items(stage)) == ([[]], ["a", "b"])


# -- whoever holds a transaction while nothing is said ---------------------------------------------

LIMIT = 0.2  # seconds


async def check_closed(stage: Stage) -> None:
    """Fail unless a connection that nobody speaks on is closed, and what it did rolled back."""
    async with Socket(stage.app) as socket:
        await socket.end()
    assert (socket.code, type(socket.error)) == (1011, ClientTimeout)
    assert "the websocket /" in str(socket.error)
    assert await items(stage) == []
    assert await held(stage) == (0, True)


@only(*ASYNC)
@pytest.mark.parametrize("how", ["scope", "atomic", "begin"])
async def test_an_idle_socket_does_not_hold_a_transaction(stage: Stage, how: str) -> None:
    """`client_wait`: what waits inside of one is told so, and closed."""
    stage.remake(client_wait=LIMIT)
    db = stage.real

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async with db.session.begin() if how == "begin" else getattr(db, how)():
            await greenlet_spawn(stage.insert, "a")
            await websocket.receive_text()

    route(stage, endpoint)
    await check_closed(stage)


@only()
async def test_nor_does_one_inside_the_scope_of_a_dependency(stage: Stage) -> None:
    """What people write instead of `db.get_session`: it is left when the connection has ended."""
    stage.remake(client_wait=LIMIT)

    async def dependency() -> AsyncIterator[Any]:
        async with stage.real.scope():
            yield stage.db.session

    def plain() -> Iterator[Any]:
        with stage.real.scope():
            yield stage.db.session

    given = Depends(dependency if stage.world.is_async else plain)

    async def endpoint(websocket: WebSocket, session: Annotated[Any, given]) -> None:
        await websocket.accept()
        session.add(Item(name="a"))
        await work(stage, session.flush)
        await websocket.receive_text()

    stage.app.add_api_websocket_route("/", endpoint)
    stage.wire()
    await check_closed(stage)


@only("inline", "psycopg async")
async def test_nor_does_one_whose_other_end_reads_nothing(stage: Stage) -> None:
    """The same of `send`, which waits while the other end's buffers are full."""
    stage.remake(client_wait=LIMIT)

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async with stage.real.scope():
            await greenlet_spawn(stage.insert, "a")
            await websocket.send_text("a")

    async def on_send(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            await asyncio.Event().wait()

    route(stage, endpoint)
    async with Socket(stage.app, on_send=on_send) as socket:
        await socket.end()
    assert (socket.code, type(socket.error)) == (1011, ClientTimeout)
    assert await items(stage) == []


@only(places=(ALONE,))
async def test_a_hundred_idle_sockets_hold_no_connection(stage: Stage) -> None:
    """Each has used the database, and waits; so ten connections serve all of them."""
    number = 100

    def message(name: str) -> None:
        with stage.db.scope():
            stage.db.scalar(text("SELECT 1"))
        stage.db.scalar(text("SELECT 1"))

    route(stage, talk(stage, message))
    sockets = [Socket(stage.app) for _ in range(number)]
    for socket in sockets:
        await socket.next()
    for start in range(0, number, 5):
        await asyncio.gather(*(each.ask("a") for each in sockets[start : start + 5]))
    assert await held(stage) == (0, True)
    assert all(not each.task.done() for each in sockets)
    for socket in sockets:
        await socket.hang_up()
    assert stage.real.stats()["connections_discarded"] == 0
