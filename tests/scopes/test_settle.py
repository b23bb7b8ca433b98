"""The end of a scope when something fails or is cancelled in it. Cases G of the rule book."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import isawaitable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.util import await_only
from starlette.responses import Response, StreamingResponse

from dbscope import TransactionOutcomeUnknown
from dbscope.unit.current import current
from tests.scopes.stage import (
    ALONE,
    ASYNC,
    ASYNC_SERVERS,
    HOW,
    INSIDE,
    OUTSIDE,
    SERVERS,
    Cancelling,
    Stage,
    Trouble,
    a_moment_after,
    eventually,
    handle,
    handle_conflict,
    only,
)
from tests.support.proxy import Proxy
from tests.worlds import SYNC, Item, needs_late_check, needs_slow_commit, plain_engine

pytestmark = pytest.mark.anyio


class Stop(BaseException):
    """What is not an Exception, as KeyboardInterrupt and SystemExit are not."""


# -- COMMIT fails ----------------------------------------------------------------------------------


@needs_late_check
@only()
async def test_after_a_failed_commit_the_same_connection_is_clean(stage: Stage) -> None:
    """G1, G9: ROLLBACK follows at once; the connection is healthy, and is not thrown away."""
    handle_conflict(stage.app)
    stage.route(stage.insert_orphan)
    stage.route(lambda: stage.insert("next"), "/next")
    for _ in range(3):
        assert (await stage.ask()).status == 409
    assert (await stage.ask(path="/next")).items == ["next"]
    stats = stage.real.stats()
    assert (stats["connections_discarded"], stats["outcomes_unknown"]) == (0, 0)
    assert stage.world.statements[-1] == "COMMIT"


@needs_late_check
@only(places=(ALONE, INSIDE))
async def test_if_commit_and_rollback_fail_the_connection_is_discarded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G3: no success is told, nothing stays open, and the next request gets another connection."""
    stage.route(stage.insert_orphan)
    stage.route(lambda: stage.insert("next"), "/next")
    await stage.warm_up()
    with monkeypatch.context() as patch:
        break_rollback(stage, patch)
        seen = await stage.ask()
    assert (seen.status, seen.items) == (500, [])
    assert isinstance(seen.answer.error, IntegrityError | RuntimeError)
    await stage.check_clean()
    assert (await stage.ask(path="/next")).items == ["next"]


@only(places=(ALONE, INSIDE))
async def test_a_failing_rollback_never_hides_the_error_before_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """G4: the request's own error leaves; that of the ROLLBACK is logged."""
    trouble = Trouble("the request's own")

    def body() -> None:
        stage.insert("a")
        raise trouble

    stage.route(body)
    stage.route(lambda: stage.insert("next"), "/next")
    await stage.warm_up()
    with monkeypatch.context() as patch:
        break_rollback(stage, patch)
        seen = await stage.ask()
    assert seen.answer.error is trouble
    assert "rollback failed" in caplog.text
    await stage.check_clean()
    assert (await stage.ask(path="/next")).items == ["next"]


@only()
async def test_a_failing_rollback_of_a_block_is_noted_on_its_error(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G4: the error that left the block says that its rollback failed too."""

    def body() -> None:
        with monkeypatch.context() as patch, stage.db.atomic():
            stage.insert("a")
            break_rollback(stage, patch)
            raise Trouble

    stage.real.non_atomic_requests(stage.route(body))
    error = (await stage.ask()).answer.error
    assert isinstance(error, Trouble)
    assert "rollback after this error failed" in error.__notes__[0]


def break_rollback(stage: Stage, patch: pytest.MonkeyPatch) -> None:
    """Let every ROLLBACK fail before it is sent."""

    def fail(*args: Any) -> None:
        raise RuntimeError("no rollback today")

    patch.setattr(plain_engine(stage.real).dialect, "do_rollback", fail)


@only(*SERVERS, places=(ALONE, INSIDE, OUTSIDE))
@pytest.mark.parametrize("kept", [True, False], ids=["cut-after-commit", "cut-before-commit"])
async def test_a_lost_answer_to_commit_is_neither_success_nor_failure(
    stage: Stage, proxy: Proxy, kept: bool
) -> None:
    """G5, C27, promise 2: TransactionOutcomeUnknown; sent once, no hook of either kind runs."""
    stage.remake(proxy.through(stage.world.url))
    ran: list[str] = []

    def body() -> None:
        stage.insert("a")
        stage.db.on_commit(lambda: ran.append("commit"))
        stage.db.on_rollback(lambda: ran.append("rollback"))

    stage.route(body)
    stage.route(lambda: stage.insert("next"), "/next")
    (proxy.cut_after_commit if kept else proxy.cut_before_commit)()
    seen = await stage.ask()
    assert seen.status == 500
    assert isinstance(seen.answer.error, TransactionOutcomeUnknown)
    assert ran == []
    assert [sql.rstrip(";") for sql in proxy.sql].count("COMMIT") == 1
    expected = ["a"] if kept else []
    await eventually(lambda: stage.world.items() == expected)
    assert stage.real.stats()["outcomes_unknown"] == 1
    assert (await stage.ask(path="/next")).items == [*expected, "next"]


@only(*SERVERS, places=(ALONE, INSIDE))
async def test_an_unknown_outcome_is_answered_by_the_applications_handler(
    stage: Stage, proxy: Proxy
) -> None:
    """G5: an application may have an answer for it, as for any error of COMMIT; but no success."""
    stage.remake(proxy.through(stage.world.url))
    handle(stage.app, TransactionOutcomeUnknown, 504)
    stage.route(lambda: stage.insert("a"))
    proxy.cut_after_commit()
    assert (await stage.ask()).status == 504


# -- cancelled -------------------------------------------------------------------------------------


@needs_slow_commit
@pytest.mark.parametrize("how", HOW)
@only(*ASYNC, places=(ALONE, INSIDE, OUTSIDE))
async def test_a_commit_in_flight_is_finished_and_then_the_cancellation_delivered(
    stage: Stage, how: Cancelling
) -> None:
    """G6, G7b: committed, hooks run, then CancelledError; and nothing spins while it waits."""
    db, ran = stage.real, []
    in_flight, slow = slow_commit(stage)
    turns: list[int] = []

    async def counted() -> None:
        await in_flight()
        turns.clear()

    async def hook() -> None:
        await db.scalar(text("SELECT 1"))
        await asyncio.sleep(0.01)
        ran.append("hook")

    @stage.app.post("/")
    async def endpoint() -> None:
        await db.execute(insert(Item).values(name="a"))
        await db.execute(text(slow))
        db.on_commit(hook)

    with each_turn(lambda: turns.append(1)):
        await how.run(stage.ask(), counted)
    assert len(turns) < 300, "something spins"
    assert (stage.world.items(), ran) == (["a"], ["hook"])
    stats = stage.real.stats()
    assert (stats["commits"], stats["outcomes_unknown"], stats["connections_discarded"]) == (
        2,
        0,
        0,
    )


@contextmanager
def each_turn(function: Callable[[], Any]) -> Iterator[None]:
    """Call a function in each turn of the event loop."""
    loop: Any = asyncio.get_running_loop()
    run_once = loop._run_once
    loop._run_once = lambda: (function(), run_once())
    try:
        yield
    finally:
        del loop._run_once


SECONDS = 0.4
LOCK = 4711  # of PostgreSQL's advisory locks, which each database has for itself
SLOW = (
    "DROP TABLE IF EXISTS slow CASCADE",
    "CREATE TABLE slow (id int)",
    f"""CREATE OR REPLACE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock({LOCK}); RETURN NULL; END'""",
    """CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION be_slow()""",
    f"SELECT pg_advisory_lock({LOCK})",
)


def slow_commit(stage: Stage) -> tuple[Callable[[], Awaitable[None]], str]:
    """Make COMMIT slow; return a wait for one to be in flight, and what makes it slow.

    It ends some time after somebody has waited for it to be in flight.
    """
    loop = asyncio.get_running_loop()
    if stage.world.is_sqlite:
        begun, may_end = asyncio.Event(), asyncio.Event()

        @event.listens_for(plain_engine(stage.real), "commit")
        def on_commit(connection: Any) -> None:
            if not begun.is_set():
                begun.set()
                await_only(may_end.wait())

        async def has_begun() -> None:
            await a_moment_after(begun)
            loop.call_later(SECONDS, may_end.set)

        return has_begun, "SELECT 1"
    look = stage.world.look
    for sql in SLOW:
        look.execute(sql)

    def is_in_flight() -> bool:
        active = [each.query for each in look.backends() if each.state == "active"]
        return any(query.startswith("COMMIT") for query in active)

    async def is_waiting() -> None:
        await eventually(is_in_flight)
        loop.call_later(SECONDS, look.execute, f"SELECT pg_advisory_unlock({LOCK})")

    return is_waiting, "INSERT INTO slow VALUES (1)"


@needs_slow_commit
@only(*ASYNC, places=(INSIDE,))
async def test_a_statement_during_commit_waits_and_goes_on_in_the_tail(stage: Stage) -> None:
    """Decision 2: sealed before COMMIT; a stream that is ahead of it is not refused, and not mixed.

    With a `BaseHTTPMiddleware` inside ours the generator runs while we wait for COMMIT.
    """
    db = stage.real
    in_flight, slow = slow_commit(stage)

    @stage.app.post("/")
    async def endpoint() -> Response:
        await db.execute(insert(Item).values(name="a"))
        await db.execute(text(slow))
        before = db.session

        async def chunks() -> AsyncIterator[str]:
            await in_flight()
            yield str(await before.scalar(text("SELECT count(*) FROM item")))
            await db.execute(insert(Item).values(name="b"))

        return StreamingResponse(chunks())

    seen = await stage.ask()
    assert (seen.status, seen.items, seen.answer.body) == (200, ["a"], b"1")
    assert stage.world.items() == ["a", "b"]
    stats = stage.real.stats()
    assert stats["concurrent_uses"] == stats["connections_discarded"] == 0


@needs_slow_commit
@pytest.mark.parametrize("how", HOW)
@only(*ASYNC)
async def test_a_scope_cancelled_during_commit_commits_too(stage: Stage, how: Cancelling) -> None:
    """G6, G7b: the same for `db.scope()`, outside of any request."""
    db, ran = stage.real, []
    in_flight, slow = slow_commit(stage)

    async def job() -> None:
        async with db.scope():
            await db.execute(insert(Item).values(name="a"))
            await db.execute(text(slow))
            db.on_commit(lambda: ran.append("hook"))
        await anyio.lowlevel.checkpoint()  # an anyio scope delivers where something waits

    await how.run(job(), in_flight)
    assert (stage.world.items(), ran) == (["a"], ["hook"])


@pytest.mark.parametrize("how", HOW)
@only(*ASYNC)
async def test_a_scope_cancelled_before_commit_is_rolled_back(
    stage: Stage, how: Cancelling
) -> None:
    """G7: at any place before COMMIT, also within a nested block."""
    db, inside = stage.real, asyncio.Event()

    async def job() -> None:
        async with db.scope():
            await db.execute(insert(Item).values(name="a"))
            async with db.atomic():
                await db.execute(insert(Item).values(name="b"))
                inside.set()
                await asyncio.sleep(20)

    await how.run(job(), partial(a_moment_after, inside))
    assert stage.world.items() == []


@pytest.mark.parametrize("how", HOW)
@only(*ASYNC_SERVERS, places=(ALONE, INSIDE))
async def test_a_cancelled_statement_ends_on_the_server_too(stage: Stage, how: Cancelling) -> None:
    """G7: else it would go on behind a closed connection, and keep its locks."""
    db, (endless, has_begun) = stage.real, stage.endless(60)
    before = stage.clients()

    @stage.app.post("/")
    async def endpoint() -> None:
        await db.execute(insert(Item).values(name="a"))
        await db.execute(text(endless))

    await how.run(stage.ask(), partial(eventually, has_begun))
    await eventually(lambda: stage.clients() <= before)


@pytest.mark.parametrize("how", HOW)
@only("inline", places=(ALONE, INSIDE))
async def test_a_cancelled_statement_of_sqlite_keeps_no_lock(stage: Stage, how: Cancelling) -> None:
    """G7, decision 10: a writer that was cancelled in a long statement lets others write."""
    db, (endless, has_begun) = stage.real, stage.endless()

    @stage.app.post("/")
    async def endpoint() -> None:
        await db.execute(insert(Item).values(name="a"))
        await db.execute(text(endless))

    await how.run(stage.ask(), partial(eventually, has_begun))
    await eventually(stage.world.look.write_lock_is_free)


# -- other ways to end -----------------------------------------------------------------------------


@only(*ASYNC)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Stop])
async def test_what_is_no_exception_rolls_a_scope_back(
    stage: Stage, kind: type[BaseException]
) -> None:
    """G15: rolled back, and it leaves as it is."""
    with pytest.raises(kind):
        async with stage.real.scope():
            await stage.real.execute(insert(Item).values(name="a"))
            raise kind
    assert stage.world.items() == []


@only(*SYNC)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Stop])
async def test_what_is_no_exception_rolls_a_plain_scope_back(
    stage: Stage, kind: type[BaseException]
) -> None:
    """G15: in a thread, with plain code."""

    def job() -> None:
        with pytest.raises(kind), stage.real.scope():
            stage.real.execute(insert(Item).values(name="a"))
            raise kind

    await anyio.to_thread.run_sync(job)
    assert stage.world.items() == []


@only()
async def test_what_is_no_exception_rolls_a_request_back(stage: Stage) -> None:
    """G15: it leaves the application; no response is made up for it."""

    def body() -> None:
        stage.insert("a")
        raise Stop

    stage.route(body)
    with pytest.raises(Stop):
        await stage.ask()
    assert current.get() is None
    assert stage.world.items() == []


@only()
@pytest.mark.parametrize("name", ["after_begin", "before_flush", "before_commit", "after_commit"])
async def test_an_event_that_raises_leaves_nothing_behind(stage: Stage, name: str) -> None:
    """G18: the application's own listener on its session fails: 500, and a clean next request.

    But for what is told when COMMIT was done: that is stored, so the answer stays (decision 13).
    """
    failing = [True]

    def listener(*args: Any) -> None:
        if failing[0]:
            raise Trouble

    def body() -> None:
        session = getattr(stage.real.session, "sync_session", stage.real.session)
        event.listen(session, name, listener)
        stage.insert("a")

    stage.route(body)
    stage.route(lambda: stage.insert("next"), "/next")
    seen = await stage.ask()
    is_stored = name == "after_commit"
    assert (seen.status, seen.checked_out) == (200 if is_stored else 500, 0)
    assert current.get() is None
    await stage.check_clean()
    expected = ["a"] if is_stored else []
    assert (await stage.ask(path="/next")).items == [*expected, "next"]


# -- what comes back to the pool -------------------------------------------------------------------


@only()
async def test_a_connection_handed_back_in_a_transaction_is_not_used_again_as_it_is(
    stage: Stage,
) -> None:
    """G17, decision 15: begun behind SQLAlchemy's back; detected when it comes back."""
    begin = "BEGIN IMMEDIATE" if stage.world.is_sqlite else "SELECT * FROM item"
    stage.route(lambda: stage.insert("next"))
    if stage.world.is_async:
        async with stage.real.engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver = raw.driver_connection
            run = driver.query if "asyncmy" in stage.world.url else driver.execute
            sent = run("BEGIN" if "asyncpg" in stage.world.url else begin)
            if isawaitable(sent):  # sqlite+inline has sqlite3's own connection
                await sent
    else:

        def leave_open() -> None:
            with stage.real.engine.connect() as connection:
                driver = connection.connection.driver_connection
                (driver.query if "pymysql" in stage.world.url else driver.execute)(begin)

        await anyio.to_thread.run_sync(leave_open)
    await stage.check_clean()
    assert (await stage.ask()).items == ["next"]


@only()
async def test_a_commit_that_the_driver_did_not_send_is_found_out_and_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """G17: the connection comes back in its transaction; it is reported with the request."""
    stage.route(lambda: stage.insert("lost"))
    stage.route(lambda: stage.insert("next"), "/next")
    with monkeypatch.context() as patch:
        patch.setattr(plain_engine(stage.real).dialect, "do_commit", lambda connection: None)
        await stage.ask()
    assert "came back from POST / in a transaction" in caplog.text
    await stage.check_clean()
    assert (await stage.ask(path="/next")).items == ["next"]


# -- hooks of a scope ------------------------------------------------------------------------------


@only("inline", "aiosqlite", "asyncpg")
async def test_all_hooks_run_and_the_first_error_is_raised_with_the_others_noted(
    stage: Stage,
) -> None:
    """C13, decision 13: in code; at the boundary of a request they are only logged."""
    db, ran = stage.real, []

    def fail() -> None:
        ran.append("failing")
        raise Trouble(len(ran))

    with pytest.raises(Trouble, match="1") as caught:
        async with db.scope():
            await db.execute(insert(Item).values(name="a"))
            db.on_commit(fail)
            db.on_commit(lambda: ran.append("fine"))
            db.on_commit(fail)
    assert ran == ["failing", "fine", "failing"]
    assert "Trouble(3)" in caught.value.__notes__[0]
    assert stage.world.items() == ["a"]


@only(*ASYNC_SERVERS, places=(ALONE, INSIDE))
async def test_after_the_first_failure_the_other_units_are_rolled_back(stage: Stage) -> None:
    """Design 21: both kinds of a database in one request; the first COMMIT fails."""
    db = stage.real
    handle_conflict(stage.app)

    @stage.app.post("/")
    async def endpoint() -> None:
        await db.execute(text("INSERT INTO child (item_id) VALUES (999)"))
        await asyncio.to_thread(db.sync.execute, insert(Item).values(name="plain"))

    seen = await stage.ask()
    assert (seen.status, seen.items) == (409, [])


# -- what runs before COMMIT -----------------------------------------------------------------------


@pytest.mark.parametrize("where", ["request", "scope", "block"])
@pytest.mark.parametrize("how", HOW)
@only(*ASYNC, places=(ALONE, INSIDE))
async def test_a_cancellation_before_commit_counts_in_before_commit_too(
    stage: Stage, how: Cancelling, where: str
) -> None:
    """It reaches what runs there, and nothing is stored."""
    db, began, ended = stage.real, asyncio.Event(), []

    async def hook() -> None:
        began.set()
        for _ in range(1000):
            await asyncio.sleep(0)
        ended.append("in time")

    async def work() -> None:
        await db.execute(insert(Item).values(name="a"))
        db.before_commit(hook)

    async def job() -> None:
        async with db.scope() if where == "scope" else db.atomic():
            await work()

    stage.app.post("/")(work)
    await how.run(stage.ask() if where == "request" else job(), began.wait)
    assert (stage.world.items(), ended) == ([], [])


@only(*SYNC, places=(ALONE, INSIDE))
@pytest.mark.parametrize("how", HOW)
async def test_a_cancelled_request_does_not_commit_when_a_thread_is_before_commit(
    stage: Stage, how: Cancelling
) -> None:
    """A thread cannot be told; it is waited for, and COMMIT does not come after it."""
    began, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hook() -> None:
        loop.call_soon_threadsafe(began.set)
        loop.call_soon_threadsafe(lambda: loop.call_soon(go_on.set))
        go_on.wait(30)

    def body() -> None:
        stage.insert("a")
        stage.real.before_commit(hook)

    stage.route(body)
    await how.run(stage.ask(), began.wait)
    assert stage.world.items() == []
