"""Results that are read in pieces: what is open at the end, and the rest that nobody reads."""

import gc
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from fastapi import HTTPException
from fastapi.sse import EventSourceResponse
from psycopg._server_cursor_base import ServerCursorMixin
from pymysql.connections import MySQLResult
from pymysql.cursors import SSCursor
from sqlalchemy import TextClause, select, text
from sqlalchemy.util import await_only, greenlet_spawn
from starlette.responses import StreamingResponse

from dbscope import TransactionManagementError, TransactionRequired, TransactionTimeout
from tests.scopes.stage import ALONE, ASYNC, INSIDE, OUTSIDE, SERVERS, Stage, only, swallowed
from tests.worlds import MYSQL, SYNC, Item, plain_engine

pytestmark = pytest.mark.anyio

EVERYWHERE = (ALONE, OUTSIDE, INSIDE)
# More rows than anybody can read in the time of a test.
ROWS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
    "postgresql": "SELECT generate_series(1, 2000000000)",
    "mysql": "SELECT seq FROM seq_1_to_2000000000",
}


def quietly(end: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return how to collect a half-read result, whose connection may be closed already."""

    def end_quietly(result: Any) -> None:
        with suppress(Exception):
            end(result)

    return end_quietly


@pytest.fixture(autouse=True, scope="module")
def half_read_results() -> None:
    """Whenever they are collected, perhaps in another test, they say nothing.

    A thread that has read one refers to it until it has something else to do.
    """
    for kind in (MySQLResult, SSCursor, ServerCursorMixin):
        kind.__del__ = quietly(kind.__del__)


@pytest.fixture
def half_read(made_stage: Stage) -> Iterator[None]:
    """Leave results half read, of which asyncmy warns when they are collected: it is compiled."""
    if made_stage.world.driver != "asyncmy":
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Previous unbuffered result was left incomplete")
        yield
        gc.collect()


def fill(stage: Stage, number_of_rows: int = 2000) -> None:
    """Store more rows than any driver reads ahead."""
    rows = ", ".join(f"('{number}')" for number in range(number_of_rows))
    stage.world.look.execute(f"INSERT INTO item (name) VALUES {rows}")


@pytest.mark.usefixtures("half_read")
@only(*ASYNC, places=EVERYWHERE)
@pytest.mark.parametrize("read", [0, 1])
async def test_a_stream_that_is_read_after_the_answer_is_named_before_it(
    stage: Stage, read: int
) -> None:
    """COMMIT closes its cursor: the client would have a success, and part of the body."""
    fill(stage, 20_000)  # behind a middleware some are read before the answer is about to leave
    query = select(Item.name).execution_options(yield_per=10)  # else the first row has all fetched

    @stage.app.get("/")
    async def endpoint() -> StreamingResponse:
        result = await stage.real.session.stream_scalars(query)
        for _ in range(read):
            await result.fetchmany(1)
        return StreamingResponse(result)

    seen = await stage.ask("GET")
    assert isinstance(seen.answer.error, TransactionManagementError)
    assert "in pieces" in str(seen.answer.error)
    assert seen.status == 500


@pytest.mark.usefixtures("half_read")
@only(*SYNC, places=EVERYWHERE)
async def test_a_result_in_pieces_that_is_read_after_it_too(stage: Stage) -> None:
    """`yield_per` of a plain session."""
    fill(stage)

    @stage.app.get("/")
    def endpoint() -> StreamingResponse:
        query = select(Item.name).execution_options(yield_per=10)
        return StreamingResponse(iter(stage.real.session.scalars(query)))

    seen = await stage.ask("GET")
    assert isinstance(seen.answer.error, TransactionManagementError)
    assert seen.status == 500


@pytest.mark.usefixtures("half_read")
@only(places=EVERYWHERE)
async def test_what_is_opened_as_late_as_before_commit_is_found_too(stage: Stage) -> None:
    """It is looked for when nobody but COMMIT has a turn any more."""
    kept: list[Any] = []

    def late() -> None:
        kept.append(began(stage))

    stage.route(lambda: stage.real.before_commit(stage.task(late)))
    seen = await stage.ask()
    assert isinstance(seen.answer.error, TransactionManagementError)
    assert (seen.status, stage.world.items()) == (500, [])


@pytest.mark.usefixtures("half_read")
@only(*ASYNC, places=(ALONE, INSIDE))
@pytest.mark.parametrize("query", [select(Item), select(Item.name), text("SELECT name FROM item")])
async def test_a_stream_that_was_read_or_dropped_is_answered(stage: Stage, query: Any) -> None:
    """Read to its end, closed, or left by whoever had it."""
    fill(stage)
    kept: list[Any] = []

    @stage.app.post("/")
    async def endpoint() -> int:
        session = stage.real.session
        kept.append(await session.stream(query))
        rows = len(await kept[0].all())
        kept.append(await session.stream(query))
        await kept[1].fetchone()
        await kept[1].close()
        async for _ in await session.stream(query):
            break
        return rows

    seen = await stage.ask()
    assert seen.answer.error is None, seen.answer.error
    assert (seen.status, seen.answer.body) == (200, b"2000")


@only(*ASYNC, places=(ALONE,))
async def test_a_stream_that_the_body_opens_itself_is_read(stage: Stage) -> None:
    """What the error says works: the query is made in the transaction of the tail."""
    fill(stage)

    async def names() -> AsyncIterator[str]:
        async for name in await stage.real.session.stream_scalars(select(Item.name)):
            yield f"{name} "

    stage.app.get("/")(lambda: StreamingResponse(names()))
    seen = await stage.ask("GET")
    assert seen.status == 200
    assert len(seen.answer.body.split()) == 2000


# -- the rest of one, when its transaction is rolled back ------------------------------------------


def began(stage: Stage, *, written: bool = True) -> Any:
    """Begin to read what has no end, perhaps behind a write, and return what there is to read."""
    if written:
        stage.insert("a")
    query: TextClause = text(ROWS[stage.world.look.url.get_backend_name()])
    query = query.execution_options(yield_per=10)
    if not stage.world.is_async:
        result = stage.real.session.execute(query)
        assert result.fetchmany(1)
        return result
    stream = await_only(stage.real.session.stream(query))
    assert await_only(stream.fetchmany(1))
    return stream


@pytest.mark.usefixtures("half_read")
@only(places=EVERYWHERE)
@pytest.mark.parametrize("written", [True, False])
async def test_a_rollback_does_not_read_the_rest(stage: Stage, *, written: bool) -> None:
    """PyMySQL and asyncmy would read all of it before they say ROLLBACK."""
    kept = []

    def endpoint() -> None:
        kept.append(began(stage, written=written))
        raise HTTPException(409)

    stage.route(endpoint)
    seen = await stage.ask()
    assert (seen.status, stage.world.items()) == (409, [])


@pytest.mark.usefixtures("half_read")
@only(*SYNC, places=EVERYWHERE)
async def test_nor_does_that_of_a_request_that_is_refused_for_it(stage: Stage) -> None:
    """While its body reads in a thread of its own: two who read from one socket hang."""

    def pieces(result: Any) -> Iterator[str]:
        for (number,) in result:
            yield f"{number} "

    @stage.app.post("/")
    def endpoint() -> StreamingResponse:
        return StreamingResponse(pieces(began(stage)))

    seen = await stage.ask()
    assert isinstance(seen.answer.error, TransactionManagementError)
    assert (seen.status, stage.world.items()) == (500, [])


@pytest.mark.usefixtures("half_read")
@only(places=(ALONE,))
async def test_what_comes_after_it_has_a_connection_that_serves(stage: Stage) -> None:
    """In the same scope, after a ROLLBACK by hand."""
    names: list[str] = []

    def endpoint() -> None:
        result = began(stage)
        stage.db.session.rollback()
        stage.insert("b")
        names.extend(stage.db.session.scalars(text("SELECT name FROM item")).all())
        del result

    stage.route(endpoint)
    seen = await stage.ask()
    assert (seen.status, names, stage.world.items()) == (200, ["b"], ["b"])


@pytest.mark.usefixtures("half_read")
@only(places=(ALONE, OUTSIDE))
@pytest.mark.parametrize("how", ["disconnect", "broken-pipe"])
@pytest.mark.parametrize("written", [True, False])
async def test_a_client_that_leaves_does_not_let_the_rest_be_read(
    stage: Stage, how: str, *, written: bool
) -> None:
    """Of an export that nobody waits for any more; what it has written is not kept."""

    def pieces() -> Iterator[str]:
        result = began(stage, written=written)
        while True:
            rows = result.fetchmany(10)
            yield str(await_only(rows) if stage.world.is_async else rows)

    stage.route(lambda: StreamingResponse(stage.stream(pieces)))
    with suppress(TransactionManagementError):
        await stage.ask_and_leave(how)
    await stage.check_clean()
    assert stage.world.items() == []


@only(*ASYNC, places=EVERYWHERE)
async def test_a_stream_in_a_scope_of_its_own_is_read_everywhere(stage: Stage) -> None:
    """Behind a `BaseHTTPMiddleware` too, where the body begins before the answer leaves."""
    fill(stage, 20_000)
    query = select(Item.name).execution_options(yield_per=10)

    async def names() -> AsyncIterator[str]:
        async with stage.real.scope():
            found = await stage.real.session.stream_scalars(query)
            async for ten in found.partitions():
                yield " ".join([*ten, ""])

    stage.app.get("/")(lambda: StreamingResponse(names()))
    seen = await stage.ask("GET")
    assert (seen.status, seen.answer.error) == (200, None)
    assert len(seen.answer.body.split()) == 20_000


# -- what is done in between -----------------------------------------------------------------------

MISSING_ROWS = "Rows are missing"


def half(stage: Stage) -> Any:
    """Read one of many rows, and return what has the others."""
    query = select(Item.name).execution_options(yield_per=10)
    if not stage.world.is_async:
        result = stage.real.session.scalars(query)
        assert len(result.fetchmany(1)) == 1
        return result
    stream = await_only(stage.real.session.stream_scalars(query))
    assert len(await_only(stream.fetchmany(1))) == 1
    return stream


def fetch(stage: Stage, result: Any, number: int) -> list[Any]:
    """Read so many rows."""
    rows: Any = result.fetchmany(number)
    return await_only(rows) if stage.world.is_async else rows  # type: ignore[no-any-return]


def count_rest(stage: Stage, result: Any) -> int:
    """Read the rest in pieces, and return how many rows it had."""
    number = 0
    while rows := fetch(stage, result, 10):
        number += len(rows)
    return number


def check_rest(stage: Stage, result: Any) -> None:
    """Fail unless all the rest comes, or an error: never less."""
    if stage.world.driver in MYSQL:
        with pytest.raises(TransactionManagementError, match=MISSING_ROWS):
            count_rest(stage, result)
    else:
        assert count_rest(stage, result) >= 1999  # SQLite has those that are written now, too


def savepoint_undone(stage: Stage) -> None:
    """Roll back to a savepoint."""
    with suppress(KeyError), stage.db.atomic():
        stage.insert("lost")
        raise KeyError


BETWEEN = {
    "read": lambda stage: stage.db.scalar(text("SELECT 1")),
    "write": lambda stage: stage.insert("kept"),
    "many writes": lambda stage: stage.db.execute(
        text("INSERT INTO item (name) VALUES (:name)"), [{"name": "x"}, {"name": "y"}]
    ),
    "savepoint": savepoint_undone,
}


@pytest.mark.usefixtures("half_read")
@only(places=(ALONE, INSIDE))
@pytest.mark.parametrize("between", BETWEEN)
async def test_no_row_is_missing_when_another_statement_comes_between(
    stage: Stage, between: str
) -> None:
    """MySQL's drivers read over the rest of it, and would say that there are no more rows."""
    fill(stage)

    def endpoint() -> None:
        result = half(stage)
        BETWEEN[between](stage)
        check_rest(stage, result)

    stage.route(endpoint)
    seen = await stage.ask()
    assert (seen.status, seen.answer.error) == (200, None)


@only()
async def test_all_are_there_if_what_was_read_were_all(stage: Stage) -> None:
    """A piece of as many rows as there are: what follows is the end, which nobody has seen."""
    fill(stage, 10)

    def endpoint() -> int:
        result = half(stage)
        first = len(fetch(stage, result, 9))
        stage.db.scalar(text("SELECT 1"))
        return first + count_rest(stage, result)

    stage.route(endpoint)
    seen = await stage.ask()
    assert (seen.status, seen.answer.error, seen.answer.body) == (200, None, b"9")


@only()
@pytest.mark.parametrize("first", ["read", "write"])
async def test_a_scope_may_begin_with_a_result_in_pieces(stage: Stage, first: str) -> None:
    """Behind its rows PyMySQL does not know of a transaction, which is there all the same."""
    fill(stage)

    def endpoint() -> int:
        BETWEEN[first](stage)
        number = count_rest(stage, half(stage))
        stage.insert("behind it")
        return number

    def only_reads() -> int:
        return count_rest(stage, half(stage))

    stage.route(endpoint)
    stage.route(only_reads, "/reads")
    seen = [await stage.ask(path="/reads"), await stage.ask()]
    assert [(each.status, each.answer.error) for each in seen] == [(200, None)] * 2
    assert "behind it" in stage.world.items()


@pytest.mark.usefixtures("half_read")
@only(*SERVERS, places=(ALONE, INSIDE))
async def test_whoever_reads_on_behind_a_rollback_by_hand_gets_an_error(stage: Stage) -> None:
    """Not the end of the rows."""
    fill(stage)

    def endpoint() -> None:
        result = half(stage)
        stage.db.session.rollback()
        with swallowed(Exception):  # mostly one of the driver
            count_rest(stage, result)

    stage.route(endpoint)
    seen = await stage.ask()
    assert (seen.status, seen.answer.error) == (200, None)


@pytest.mark.usefixtures("half_read")
@only()
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("end", ["undo", "release", "commit", "close"])
async def test_what_goes_on_does_not_wait_for_the_rest(
    stage: Stage, end: str, *, held: bool
) -> None:
    """ROLLBACK TO, RELEASE, COMMIT; the query is ended, and the transaction is whole."""
    kept: list[Any] = []

    def inside() -> None:
        result = began(stage)
        if end == "close":
            closed = result.close()
            await_only(closed) if stage.world.is_async else None
        if held:
            kept.append(result)
        if end == "undo":
            raise KeyError

    def work() -> None:
        with stage.db.scope():
            stage.db.execute(text("INSERT INTO item (name) VALUES ('before')"))
            if end in {"undo", "release"}:
                with suppress(KeyError), stage.db.atomic():
                    inside()
                stage.insert("behind")
            else:
                inside()

    with anyio.fail_after(20):
        await (greenlet_spawn(work) if stage.world.is_async else anyio.to_thread.run_sync(work))
    expected = {"undo": ["before", "behind"], "release": ["before", "a", "behind"]}
    assert stage.world.items() == expected.get(end, ["before", "a"])


@pytest.mark.usefixtures("half_read")
@only()
async def test_a_connection_of_the_engine_can_be_used_behind_its_rollback(stage: Stage) -> None:
    """One that belongs to no scope."""

    def work() -> Any:
        connection = plain_engine(stage.real).connect()
        query = text(ROWS[stage.world.look.url.get_backend_name()])
        options = {"stream_results": True, "max_row_buffer": 10}
        result = connection.execute(query, execution_options=options)
        assert result.fetchmany(1)
        connection.rollback()
        try:
            return connection.scalar(text("SELECT 7"))
        finally:
            connection.close()

    run = greenlet_spawn(work) if stage.world.is_async else anyio.to_thread.run_sync(work)
    with anyio.fail_after(20):
        assert await run == 7


# -- where there is no transaction -----------------------------------------------------------------


@only()
async def test_an_event_stream_says_that_it_has_no_transaction(stage: Stage) -> None:
    """Its generator begins while there is one, before the answer does, and asks behind its end."""
    query = select(Item.name).execution_options(yield_per=10)

    def names() -> Iterator[str]:
        yield from stage.real.session.scalars(query)

    async def names_async() -> AsyncIterator[str]:
        async for name in await stage.real.session.stream_scalars(query):
            yield name

    generator = names_async if stage.world.is_async else names
    stage.app.get("/", response_class=EventSourceResponse)(generator)
    seen = await stage.ask("GET")
    assert isinstance(seen.answer.error, ExceptionGroup)
    assert seen.answer.error.subgroup(TransactionRequired) is not None


@pytest.mark.usefixtures("half_read")
@only()
async def test_the_time_of_a_block_is_that_of_reading_too(stage: Stage) -> None:
    """Where the server looks at each statement alone, and a piece of the rows never takes long."""

    def work() -> None:
        with stage.db.scope(), stage.db.atomic(timeout=1):
            result = began(stage)
            while True:
                fetch(stage, result, 10)

    run = greenlet_spawn(work) if stage.world.is_async else anyio.to_thread.run_sync(work)
    with anyio.fail_after(20), pytest.raises(TransactionTimeout):
        await run
    assert stage.world.items() == []


# -- several who read ------------------------------------------------------------------------------


@pytest.mark.usefixtures("half_read")
@only(*SYNC)
async def test_a_thread_that_reads_when_the_rest_is_given_up_gets_an_error(stage: Stage) -> None:
    """Not the end of the rows, whatever it is in the middle of."""
    told: list[BaseException] = []

    def read(result: Any) -> None:
        try:
            while result.fetchmany(10):
                pass
        except Exception as error:
            told.append(error)

    def work() -> None:
        with stage.db.scope():
            reader = threading.Thread(target=read, args=[began(stage)])
            reader.start()
            time.sleep(0.1)
            stage.db.set_rollback()
        reader.join(20)

    with anyio.fail_after(30):
        await anyio.to_thread.run_sync(work)
    assert len(told) == 1
