"""What is open below a request when its answer is about to leave: an error before it leaves."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Annotated, Any

import pytest
from fastapi import Depends
from sqlalchemy import text
from sqlalchemy.util import greenlet_spawn
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, StreamingResponse

from dbscope import BlocksOutOfOrder
from tests.scopes.stage import ALONE, ASYNC, INSIDE, OUTSIDE, Stage, handle, only
from tests.worlds import SYNC, Both, Item

pytestmark = pytest.mark.anyio

EVERYWHERE = (ALONE, OUTSIDE, INSIDE)


# -- what can be open ------------------------------------------------------------------------------


def added(db: Both) -> None:
    db.session.add(Item(name="a"))


def flushed(db: Both) -> None:
    added(db)
    db.session.flush()


def deleted(db: Both) -> None:
    flushed(db)
    db.session.commit()
    db.session.delete(db.session.get(Item, 1))


def read(db: Both) -> None:
    db.scalar(text("SELECT 1"))


def promised(db: Both) -> None:
    db.on_commit(partial(pytest.fail, "it was never stored"))


def asked(db: Both) -> None:
    db.before_commit(lambda: added(db))


def in_a_block(db: Both) -> None:
    block = db.real.atomic()
    block.enter(block.unit())


def in_a_savepoint(db: Both) -> None:
    flushed(db)
    in_a_block(db)


WORK = [added, flushed, read, promised, asked, in_a_block, in_a_savepoint]


def open_scope(stage: Stage, work: Callable[[Both], None], **how: Any) -> Any:
    """Return a dependency with `yield`, of the database's kind, that works in a scope."""
    if not stage.world.is_async:
        return in_a_thread(stage.real, work, **how)

    async def dependency() -> AsyncIterator[Any]:
        async with stage.real.scope(**how):
            await greenlet_spawn(work, stage.db)
            yield stage.real.session

    return dependency


def in_a_thread(database: Any, work: Callable[[Both], None], **how: Any) -> Any:
    """Return a plain dependency with `yield`, whose ContextVars nobody else sees."""

    def dependency() -> Iterator[Any]:
        with database.scope(**how):
            work(Both(database))
            yield database.session

    return dependency


def check_refused(stage: Stage, seen: Any, stored: list[str] | None = None) -> None:
    """Fail unless it is an error of ours, before the answer left, with nothing stored."""
    assert isinstance(seen.answer.error, BlocksOutOfOrder)
    assert "yield" in str(seen.answer.error)
    assert seen.status == 500
    assert (seen.items, stage.world.items()) == (stored or [], stored or [])


@only(places=EVERYWHERE)
@pytest.mark.parametrize("work", WORK)
async def test_a_request_is_not_answered_inside_a_scope_of_a_dependency(
    stage: Stage, work: Callable[[Both], None]
) -> None:
    """Sent, pending, promised or in a block: its end could fail when the answer is gone."""
    dependency = Depends(open_scope(stage, work))
    stage.route(lambda: {"ok": True}, dependencies=[dependency])
    check_refused(stage, await stage.ask())


@only(places=EVERYWHERE)
async def test_what_is_to_be_deleted_is_pending_too(stage: Stage) -> None:
    """And what the scope has committed by itself is stored, whatever becomes of the rest."""
    stage.route(lambda: None, dependencies=[Depends(open_scope(stage, deleted))])
    check_refused(stage, await stage.ask(), ["a"])


@only(places=(ALONE, INSIDE))
@pytest.mark.parametrize("work", [added, in_a_block])
async def test_a_scope_that_autocommits_may_have_something_open_too(
    stage: Stage, work: Callable[[Both], None]
) -> None:
    """What was added and not flushed; a block."""
    stage.route(lambda: None, dependencies=[Depends(open_scope(stage, work, atomic=False))])
    check_refused(stage, await stage.ask())


@only(places=EVERYWHERE)
async def test_nothing_of_the_request_itself_is_stored_either(stage: Stage) -> None:
    """The endpoint has worked in the request's own session, and the dependency beside it."""
    db = stage.real

    if stage.world.is_async:

        @stage.app.post("/")
        async def endpoint(
            given: Annotated[Any, Depends(open_scope(stage, lambda db: None))],
        ) -> None:
            given.add(Item(name="a"))

    else:

        @stage.app.post("/")
        def plain(given: Annotated[Any, Depends(open_scope(stage, lambda db: None))]) -> None:
            given.add(Item(name="a"))
            db.session.add(Item(name="b"))
            db.session.flush()
            assert given is not db.session

    check_refused(stage, await stage.ask())


@only(*ASYNC, places=(ALONE, INSIDE))
@pytest.mark.parametrize("work", WORK)
async def test_the_companion_in_a_thread_is_seen_too(
    stage: Stage, work: Callable[[Both], None]
) -> None:
    """A plain dependency opens its scope in a thread, whose ContextVars the request never sees."""
    dependency = Depends(in_a_thread(stage.real.sync, work))
    stage.route(lambda: None, dependencies=[dependency])
    check_refused(stage, await stage.ask())


@only(places=(ALONE, INSIDE))
async def test_a_dependency_of_a_dependency_is_seen_too(stage: Stage) -> None:
    """The outer scope is unused, the inner one is not."""
    inner = open_scope(stage, added)
    outer: Any

    if stage.world.is_async:

        async def outer(session: Annotated[Any, Depends(inner)]) -> AsyncIterator[None]:
            async with stage.real.scope():
                yield
    else:

        def outer(session: Annotated[Any, Depends(inner)]) -> Iterator[None]:
            with stage.real.scope():
                yield

    stage.route(lambda: None, dependencies=[Depends(outer)])
    check_refused(stage, await stage.ask())


@only(places=(ALONE, INSIDE))
async def test_a_context_manager_of_the_application_is_seen_through(stage: Stage) -> None:
    """`with unit(): yield`: the line that opens the scope is not the dependency's."""
    enter = open_scope(stage, added)
    dependency: Any

    if stage.world.is_async:

        async def dependency() -> AsyncIterator[None]:
            async with asynccontextmanager(enter)():
                yield
    else:

        def dependency() -> Iterator[None]:
            with contextmanager(enter)():
                yield

    stage.route(lambda: None, dependencies=[Depends(dependency)])
    check_refused(stage, await stage.ask())


@only(places=(ALONE, INSIDE))
async def test_a_block_with_a_transaction_of_its_own_is_a_scope(stage: Stage) -> None:
    """`atomic(propagation="requires_new")` around a `yield`."""

    async def dependency() -> AsyncIterator[None]:
        async with stage.real.atomic(propagation="requires_new"):
            await greenlet_spawn(stage.insert, "a")
            yield

    def plain() -> Iterator[None]:
        with stage.real.atomic(propagation="requires_new"):
            stage.insert("a")
            yield

    used = dependency if stage.world.is_async else plain
    stage.route(lambda: None, dependencies=[Depends(used)])
    check_refused(stage, await stage.ask())


# -- blocks of the request's own transaction -------------------------------------------------------


def around_yield(stage: Stage, how: str) -> Any:
    """Return a dependency that yields inside a block of the request's own transaction."""
    db = stage.db

    async def dependency() -> AsyncIterator[None]:
        await greenlet_spawn(stage.insert, "a")
        opened = getattr(stage.real, how, None) or partial(getattr, stage.real.session, how)()
        async with opened():
            yield

    def plain() -> Iterator[None]:
        stage.insert("a")
        opened = getattr(db, how, None) or getattr(db.session, how)
        with opened():
            yield

    return dependency if stage.world.is_async else plain


@only(places=EVERYWHERE)
@pytest.mark.parametrize("how", ["atomic", "savepoint"])
async def test_a_block_around_a_yield_is_open_when_the_request_is_answered(
    stage: Stage, how: str
) -> None:
    """Nobody can say then what becomes of it."""
    stage.route(lambda: stage.insert("b"), dependencies=[Depends(around_yield(stage, how))])
    seen = await stage.ask()
    assert isinstance(seen.answer.error, BlocksOutOfOrder)
    assert (seen.status, seen.items, stage.world.items()) == (500, [], [])


@only(places=(ALONE, INSIDE))
async def test_so_is_one_in_a_request_that_autocommits(stage: Stage) -> None:
    """There it is the outermost one, and a transaction."""
    endpoint = stage.route(lambda: None, dependencies=[Depends(around_yield(stage, "atomic"))])
    stage.real.non_atomic_requests(endpoint)
    seen = await stage.ask()
    assert isinstance(seen.answer.error, BlocksOutOfOrder)
    assert (seen.status, stage.world.items()) == (500, ["a"])


@only(places=(ALONE, INSIDE))
async def test_so_is_one_begun_by_hand_in_a_request_that_autocommits(stage: Stage) -> None:
    """`session.begin()` around a `yield` is rolled back at the end; a success would be a lie."""

    async def dependency() -> AsyncIterator[None]:
        async with stage.real.session.begin():
            await greenlet_spawn(stage.insert, "a")
            yield

    def plain() -> Iterator[None]:
        with stage.real.session.begin():
            stage.insert("a")
            yield

    used = dependency if stage.world.is_async else plain
    endpoint = stage.route(lambda: None, dependencies=[Depends(used)])
    stage.real.non_atomic_requests(endpoint)
    seen = await stage.ask()
    assert isinstance(seen.answer.error, BlocksOutOfOrder)
    assert (seen.status, stage.world.items()) == (500, [])


# -- other requests than plain ones ----------------------------------------------------------------


@only(places=EVERYWHERE)
async def test_the_start_of_a_stream_is_an_answer(stage: Stage) -> None:
    """Its body and its background tasks never come to be."""
    ran: list[str] = []

    def body() -> Any:
        background = BackgroundTask(ran.append, "background")
        return StreamingResponse(stage.stream(lambda: iter("abc")), background=background)

    stage.route(body, dependencies=[Depends(open_scope(stage, added))])
    check_refused(stage, await stage.ask())
    assert ran == []


@only(places=(ALONE, INSIDE))
async def test_a_request_that_may_be_done_again_is_answered_once(stage: Stage) -> None:
    """It is no conflict: doing it again would not help."""
    calls: list[int] = []
    stage.install["retry"] = 3
    dependency = Depends(open_scope(stage, added))
    stage.route(lambda: calls.append(1), dependencies=[dependency])
    check_refused(stage, await stage.ask())
    assert calls == [1]


@only(places=(ALONE, INSIDE))
async def test_a_mounted_application_is_a_part_of_the_request(stage: Stage) -> None:
    """With an `install` of its own."""
    sub = Stage(stage.world, stage.around)
    sub.wire()
    sub.route(lambda: None, dependencies=[Depends(open_scope(stage, added))])
    stage.app.mount("/sub", sub.app)
    check_refused(stage, await stage.ask(path="/sub/"))


@only("inline", "aiosqlite", "sqlite3", places=(ALONE, INSIDE))
async def test_each_database_of_a_scope_counts(stage: Stage, tmp_path: Any) -> None:
    """The request has used one, and the scope of the dependency another."""
    other = type(stage.real)(f"sqlite:///{tmp_path / 'other.db'}", name="other")

    def work(db: Both) -> None:
        Both(other).session.add(Item(name="a"))

    stage.route(lambda: stage.insert("b"), dependencies=[Depends(open_scope(stage, work))])
    check_refused(stage, await stage.ask())


@only("inline", "psycopg async", "psycopg sync", places=EVERYWHERE)
async def test_the_handler_of_the_application_is_asked(stage: Stage) -> None:
    """As for every failure at the end; its own answer leaves."""
    handle(stage.app, BlocksOutOfOrder, 503)
    stage.route(lambda: None, dependencies=[Depends(open_scope(stage, added))])
    seen = await stage.ask()
    assert (seen.status, seen.items, stage.world.items()) == (503, [], [])


@only(places=(ALONE, INSIDE))
async def test_a_refusal_promises_nothing(stage: Stage) -> None:
    """A scope is a lifetime of its own: it may be stored beside a request that is refused."""
    dependency = Depends(open_scope(stage, added))
    stage.route(lambda: JSONResponse({}, 409), dependencies=[dependency])
    seen = await stage.ask()
    assert (seen.status, seen.answer.error) == (409, None)
    assert stage.world.items() == ["a"]


@only(places=(ALONE, INSIDE))
async def test_a_refusal_that_is_to_be_kept_promises_it(stage: Stage) -> None:
    """`db.keep`."""
    dependency = Depends(open_scope(stage, added))
    stage.route(lambda: stage.real.keep(JSONResponse({}, 409)), dependencies=[dependency])
    check_refused(stage, await stage.ask())


# -- what is not the request's concern -------------------------------------------------------------


@only(places=EVERYWHERE)
async def test_a_scope_that_ends_with_the_endpoint_is_stored(stage: Stage) -> None:
    """`Depends(scope="function")` is left before the answer."""
    dependency = Depends(open_scope(stage, added), scope="function")
    stage.route(lambda: None, dependencies=[dependency])
    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["a"])


@only(places=EVERYWHERE)
async def test_a_scope_in_which_nothing_is_open_may_be_open(stage: Stage) -> None:
    """Never used, only reading by single statements, or stored already."""
    works: list[Callable[[Both], None]] = [lambda db: None, read, flushed]
    opened = [open_scope(stage, work, atomic=False) for work in works]
    stage.route(lambda: None, dependencies=[*map(Depends, opened)])
    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["a"])


@only(*ASYNC, places=EVERYWHERE)
@pytest.mark.parametrize("through", ["scope", "context manager"])
async def test_a_task_that_outlives_the_answer_has_a_life_of_its_own(
    stage: Stage, through: str
) -> None:
    """It is in its scope itself, and ends it when it is done."""
    used, answered, tasks = asyncio.Event(), asyncio.Event(), []
    unit = stage.real.scope
    if through == "context manager":
        unit = asynccontextmanager(open_scope(stage, lambda db: None))

    async def work() -> None:
        async with unit():
            await greenlet_spawn(stage.insert, "a")
            used.set()
            await answered.wait()

    @stage.app.post("/")
    async def endpoint() -> None:
        tasks.append(asyncio.create_task(work()))
        await used.wait()

    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, [])
    answered.set()
    await tasks[0]
    assert stage.world.items() == ["a"]


@only(*SYNC, places=EVERYWHERE)
@pytest.mark.parametrize("how", ["thread", "to_thread"])
@pytest.mark.parametrize("through", ["scope", "context manager"])
async def test_a_thread_that_outlives_the_answer_has_one_too(
    stage: Stage, how: str, through: str
) -> None:
    """As long as the thread is in the call that has opened it."""
    used, answered, done = threading.Event(), threading.Event(), threading.Event()
    unit = stage.real.scope
    if through == "context manager":
        unit = contextmanager(open_scope(stage, lambda db: None))

    def work() -> None:
        with unit():
            stage.insert("a")
            used.set()
            answered.wait(30)
        done.set()

    tasks: list[Any] = []

    @stage.app.post("/")
    async def endpoint() -> None:
        if how == "thread":
            threading.Thread(target=contextvars.copy_context().run, args=(work,)).start()
        else:
            tasks.append(asyncio.create_task(asyncio.to_thread(work)))
        await asyncio.to_thread(used.wait, 30)

    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, [])
    answered.set()
    assert await asyncio.to_thread(done.wait, 30)
    assert stage.world.items() == ["a"]


@only(*ASYNC, places=(ALONE, INSIDE))
async def test_a_task_that_is_done_has_left_its_scope_to_the_request(stage: Stage) -> None:
    """Whoever opened it will not come back; the generator of a dependency will be."""
    opened: list[Any] = []

    async def dependency() -> AsyncIterator[None]:
        scope = asynccontextmanager(open_scope(stage, added))()
        await asyncio.create_task(scope.__aenter__())
        yield
        await scope.__aexit__(None, None, None)

    stage.route(lambda: opened, dependencies=[Depends(dependency)])
    check_refused(stage, await stage.ask())


@only(places=(ALONE, OUTSIDE, INSIDE))
async def test_parallel_work_that_is_awaited_has_ended(stage: Stage) -> None:
    """`db.gather`."""

    def body() -> None:
        stage.db.gather(partial(stage.insert, "a"), partial(stage.insert, "b"))

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, sorted(seen.items or [])) == (200, ["a", "b"])


@only(places=EVERYWHERE)
async def test_the_body_of_a_stream_may_have_a_scope_of_its_own(stage: Stage) -> None:
    """With a middleware in between, it begins while the start is still on its way."""

    def chunks() -> Iterator[str]:
        with stage.real.scope():
            stage.insert("a")
            yield "a"
            yield "b"

    async def async_chunks() -> AsyncIterator[str]:
        async with stage.real.scope():
            await greenlet_spawn(stage.insert, "a")
            yield "a"
            yield "b"

    made = async_chunks if stage.world.is_async else chunks
    stage.route(lambda: StreamingResponse(made()))
    seen = await stage.ask()
    assert (seen.status, seen.answer.body, seen.answer.error) == (200, b"ab", None)
    assert stage.world.items() == ["a"]
