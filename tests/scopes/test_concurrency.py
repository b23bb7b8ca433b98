"""Many requests at once, many tasks in one request, and tasks that outlive it."""

import asyncio
import random
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import pytest
from fastapi import HTTPException
from psycopg.errors import CancellationTimeout
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only
from starlette.responses import JSONResponse, Response

from dbscope import (
    ConcurrentUse,
    DatabaseUnavailable,
    PoolTimeout,
    ScopeClosed,
    UnexpectedRollback,
)
from dbscope.backends.postgresql.psycopg import AsyncConnection
from dbscope.unit import finish
from dbscope.unit.current import current
from tests.scopes.stage import (
    ALONE,
    ASYNC,
    ASYNC_SERVERS,
    INSIDE,
    SERVERS,
    Stage,
    Trouble,
    eventually,
    handle,
    only,
    swallowed,
)
from tests.worlds import SYNC, Item, plain_engine

pytestmark = pytest.mark.anyio

SMALL = {"pool_size": 5, "max_overflow": 0}
PATIENCE = 50  # seconds: nobody waits that long unless he waits for ever
ORDINARY = 20


async def check_ordinary(stage: Stage, number: int = ORDINARY) -> None:
    """Fail unless that many ordinary requests, one after the other, are served as ever."""
    path = "/ordinary"
    stage.route(lambda: stage.db.scalar(text("SELECT 7")), path, "GET")
    answers = [await stage.ask("GET", path) for _ in range(number)]
    assert [(each.status, each.answer.body) for each in answers] == [(200, b"7")] * number


# -- many requests ---------------------------------------------------------------------------------

ACCOUNTS = 20
START = 1000
REQUESTS = 200


@only(places=(ALONE, INSIDE))
async def test_transfers_add_up_whatever_fails(stage: Stage) -> None:
    """200 requests at once on 5 connections, half of them failing at random places.

    What is stored is what was acknowledged; no request sees the session or the hooks of another.
    """
    stage.remake(engine_options=SMALL | {"pool_timeout": PATIENCE})
    stage.world.look.execute("DROP TABLE IF EXISTS account")
    stage.world.look.execute("CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)")
    for number in range(ACCOUNTS):
        stage.world.look.execute("INSERT INTO account VALUES (?, ?)", number, START)
    dice = random.Random(7)
    plans = [Plan(number, dice) for number in range(REQUESTS)]
    hooked: list[int] = []
    sessions: set[int] = set()

    def transfer(number: int) -> Response:
        plan, session = plans[number], stage.real.session
        assert "plan" not in session.info, "the session of another request"
        session.info["plan"] = number
        sessions.add(id(session))
        stage.db.on_commit(lambda: hooked.append(number))
        for account, amount in plan.steps():
            plan.fail_at(account)
            sql = text("UPDATE account SET balance = balance + :amount WHERE id = :account")
            stage.db.execute(sql, {"amount": amount, "account": account})
            assert stage.real.session is session
            assert session.info["plan"] == number
        plan.fail_at(None)
        return plan.response()

    for number in range(REQUESTS):
        stage.route(lambda number=number: transfer(number), f"/{number}")
    answers = await asyncio.gather(*(plain_ask(stage, f"/{n}") for n in range(REQUESTS)))

    kept = {plan.number for plan in plans if plan.failure is None}
    assert 60 < len(kept) < 140
    assert {n for n in range(REQUESTS) if answers[n] == 200} == kept
    assert sorted(hooked) == sorted(kept)
    expected = Counter(dict.fromkeys(range(ACCOUNTS), START))
    for plan in plans:
        if plan.number in kept:
            expected.update(dict(plan.steps()))
    stored = dict(stage.world.look.rows("SELECT id, balance FROM account"))
    assert stored == dict(expected)
    assert sum(stored.values()) == ACCOUNTS * START
    stats = stage.real.stats()
    assert stats["concurrent_uses"] == stats["second_connections"] == 0
    assert stats["connections_discarded"] == 0


class Plan:
    """What one request is to transfer, and where and how it fails."""

    def __init__(self, number: int, dice: random.Random) -> None:
        self.number = number
        # In one order, so that two never wait for each other.
        self.accounts = sorted(dice.sample(range(ACCOUNTS), 2))
        self.amount = dice.randint(-50, 50)
        self.failure = dice.choice([None, None, None, "http", "error", "status"])
        self.place = dice.choice([*self.accounts[1:], None])

    def steps(self) -> list[tuple[int, int]]:
        """Return the accounts, and what is added to each."""
        first, second = self.accounts
        return [(first, self.amount), (second, -self.amount)]

    def fail_at(self, place: int | None) -> None:
        """Fail, if it is to be at this place."""
        if place == self.place and self.failure == "http":
            raise HTTPException(409)
        if place == self.place and self.failure == "error":
            raise Trouble

    def response(self) -> Response:
        """Return the response of a request that got this far."""
        return JSONResponse({}, 422 if self.failure == "status" else 200)


async def plain_ask(stage: Stage, path: str) -> int | None:
    """Ask without looking at the database."""
    from tests.asgi import ask

    stage.wire()
    return (await ask(stage.app, "POST", path)).status


@only(*SERVERS)
async def test_endpoints_that_fill_all_threads_still_end(stage: Stage) -> None:
    """fastapi#3205: COMMIT needs no thread of those that wait for its connection."""
    stage.remake(engine_options={"pool_size": 1, "max_overflow": 0, "pool_timeout": PATIENCE})

    def body() -> Response:
        stage.db.execute(text(stage.world.sleep(0.001)))
        return Response()  # FastAPI would take another thread to validate anything else

    stage.route(body)
    statuses = await asyncio.gather(*(plain_ask(stage, "/") for _ in range(120)))
    assert set(statuses) == {200}


# -- many tasks in one request ---------------------------------------------------------------------


@only(*ASYNC, places=(ALONE, INSIDE))
@pytest.mark.parametrize("pool", ["cold", "warm"])
async def test_gather_on_one_session_is_refused_and_poisons_nothing(
    stage: Stage, pool: str
) -> None:
    """G13, promise 5: ConcurrentUse, whatever the pool has; the next 20 requests are fine."""
    db = stage.real
    handle(stage.app, ConcurrentUse, 418)
    if pool == "warm":
        await stage.warm_up()

    @stage.app.post("/")
    async def endpoint() -> None:
        work = [db.execute(insert(Item).values(name=name)) for name in "abc"]
        await asyncio.gather(*work)

    seen = await stage.ask()
    assert (seen.status, seen.items) == (418, [])
    assert stage.real.stats()["concurrent_uses"] == 2
    await check_ordinary(stage)
    assert stage.real.stats()["connections_discarded"] == 0


@only(*ASYNC)
@pytest.mark.parametrize("pool", ["cold", "warm"])
async def test_what_was_refused_was_not_sent_and_breaks_nothing(stage: Stage, pool: str) -> None:
    """G13: the one that was first is done, and may be committed."""
    db = stage.real
    if pool == "warm":
        await stage.warm_up()

    @stage.app.post("/")
    async def endpoint() -> list[str]:
        work = [db.execute(insert(Item).values(name=name)) for name in "abc"]
        results = await asyncio.gather(*work, return_exceptions=True)
        return [type(each).__name__ for each in results]

    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["a"])
    assert seen.answer.body == b'["CursorResult","ConcurrentUse","ConcurrentUse"]'
    await check_ordinary(stage)


@only(*ASYNC)
@pytest.mark.parametrize("what", ["commit", "rollback", "flush", "atomic"])
async def test_another_task_cannot_end_a_transaction_in_use(stage: Stage, what: str) -> None:
    """G13, 4.6: COMMIT racing a statement would commit half, or poison the connection."""
    db = stage.real

    async def other() -> None:
        await asyncio.sleep(0)
        if what == "atomic":
            async with db.atomic():
                pass
        elif what == "flush":
            db.session.add(Item(name="b"))
            await db.session.flush()
        else:
            await getattr(db.session, what)()

    @stage.app.post("/")
    async def endpoint() -> str:
        first = db.execute(insert(Item).values(name="a"))
        results = await asyncio.gather(first, other(), return_exceptions=True)
        return type(results[1]).__name__

    seen = await stage.ask()
    assert seen.answer.body == b'"ConcurrentUse"'
    assert seen.status == 200
    assert (seen.items or [])[:1] == ["a"]
    await check_ordinary(stage)
    assert stage.real.stats()["connections_discarded"] == 0


@only(*SYNC)
async def test_two_threads_on_one_session_are_refused(stage: Stage) -> None:
    """G13: the same for plain code; the session of a request is for one thread at a time."""
    db, begun, refused = stage.real, threading.Event(), threading.Event()

    @event.listens_for(plain_engine(db), "before_cursor_execute")
    def on_statement(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement == "SELECT 2":  # takes as long as that
            begun.set()
            assert refused.wait(40)

    def body() -> str:
        session = db.session
        session.execute(text("SELECT 1"))
        thread = threading.Thread(target=session.execute, args=[text("SELECT 2")])
        thread.start()
        assert begun.wait(40)
        with swallowed(ConcurrentUse):
            session.execute(text("SELECT 1"))
        refused.set()
        thread.join()
        stage.insert("a")
        return "refused"

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.answer.body, seen.items) == (200, b'"refused"', ["a"])


@only(*ASYNC)
async def test_tasks_may_use_the_session_one_after_the_other(stage: Stage) -> None:
    """Semantics 0: handing a unit from task to task is fine; that is what middlewares do."""
    db = stage.real

    async def store(name: str) -> None:
        db.session.add(Item(name=name))
        await db.session.flush()

    @stage.app.post("/")
    async def endpoint() -> None:
        for name in "abc":
            await asyncio.create_task(store(name))

    assert (await stage.ask()).items == ["a", "b", "c"]


@only(*ASYNC_SERVERS)
async def test_parallel_work_in_scopes_of_its_own_is_independent(stage: Stage) -> None:
    """The remedy that ConcurrentUse names: each its own scope; one failure is one rollback."""
    db = stage.real

    async def store(name: str) -> None:
        async with db.scope():
            await db.execute(insert(Item).values(name=name))
            if name == "b":
                raise Trouble

    @stage.app.post("/")
    async def endpoint() -> None:
        await asyncio.gather(*(store(name) for name in "abc"), return_exceptions=True)

    assert sorted((await stage.ask()).items or []) == ["a", "c"]


# -- tasks that outlive their request --------------------------------------------------------------


@only(*ASYNC, places=(ALONE, INSIDE))
@pytest.mark.parametrize("by", ["db.session", "variable"])
async def test_a_task_that_outlives_its_request_is_refused(stage: Stage, by: str) -> None:
    """G14, promise 5: ScopeClosed, which names the request; no connection is taken for it."""
    db, over = stage.real, asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    @stage.app.post("/")
    async def endpoint() -> None:
        session = db.session
        await db.execute(insert(Item).values(name="a"))

        async def outlive() -> None:
            await over.wait()
            mine = session if by == "variable" else db.session
            await mine.execute(insert(Item).values(name="late"))

        tasks.append(asyncio.create_task(outlive()))

    assert (await stage.ask()).status == 200
    over.set()
    with pytest.raises(ScopeClosed, match="POST /"):
        await tasks[0]
    assert stage.world.items() == ["a"]
    await check_ordinary(stage, 3)


@only(*ASYNC)
async def test_a_task_that_outlives_its_request_may_open_a_scope(stage: Stage) -> None:
    """G14: the remedy that ScopeClosed names works there; so does `atomic` alone."""
    db, over = stage.real, asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    @stage.app.post("/")
    async def endpoint() -> None:
        async def outlive() -> None:
            await over.wait()
            async with db.scope():
                await db.execute(insert(Item).values(name="scope"))
            async with db.atomic():
                await db.execute(insert(Item).values(name="atomic"))

        tasks.append(asyncio.create_task(outlive()))

    assert (await stage.ask()).status == 200
    over.set()
    await tasks[0]
    assert stage.world.items() == ["scope", "atomic"]


@only(*ASYNC_SERVERS, places=(ALONE, INSIDE))
async def test_a_request_waits_for_the_statement_of_its_forgotten_task(stage: Stage) -> None:
    """Decision 2: COMMIT never races a statement; it waits until that has come back."""
    db, tasks = stage.real, []

    @stage.app.post("/")
    async def endpoint() -> None:
        await db.execute(insert(Item).values(name="a"))
        tasks.append(asyncio.create_task(db.execute(text(stage.world.sleep(0.3)))))
        await asyncio.sleep(0.1)

    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["a"])
    await tasks[0]
    assert stage.real.stats()["connections_discarded"] == 0
    await check_ordinary(stage, 3)


@only(*ASYNC_SERVERS, places=(ALONE, INSIDE))
async def test_a_forgotten_statement_that_does_not_come_back_is_ended(stage: Stage) -> None:
    """Decision 2: after a time limit; no success is told, since nothing could be committed.

    psycopg can have a statement cancelled from outside; with the others its connection ends.
    """
    db, look, tasks = stage.real, stage.world.look, []
    db._source.finish_timeout = 0.2
    before = stage.clients()
    wait, no_longer = WAITS[look.url.get_backend_name()]
    look.execute(wait)
    busy = stage.busy()

    @stage.app.post("/")
    async def endpoint() -> None:
        await db.execute(insert(Item).values(name="a"))
        tasks.append(asyncio.create_task(db.execute(text(wait))))
        await eventually(lambda: bool(stage.busy() - busy))

    seen = await stage.ask()
    look.execute(no_longer)
    assert seen.status == 500
    await asyncio.gather(*tasks, return_exceptions=True)
    assert stage.world.items() == []
    if stage.world.driver != "psycopg async" and not db.watch.is_on:  # which asks by its own
        await eventually(lambda: stage.clients() <= before)
    await stage.check_clean()
    await check_ordinary(stage, 3)


@only(*ASYNC, places=(ALONE, INSIDE))
async def test_a_failed_request_ends_the_statement_that_it_has_forgotten(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is its own, nobody is cancelled, and the connection comes back."""
    db, tasks, (endless, has_begun) = stage.real, [], stage.endless()
    monkeypatch.setattr(finish, "_comes_back", not_at_first(finish._comes_back))

    @stage.app.post("/")
    async def endpoint() -> None:
        await db.execute(insert(Item).values(name="a"))
        tasks.append(asyncio.create_task(db.execute(text(endless))))
        await eventually(has_begun)
        raise HTTPException(409)

    seen = await stage.ask()
    assert (seen.status, seen.answer.error) == (409, None)
    (ended,) = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ended, Exception)  # and no cancellation
    assert stage.world.items() == []
    await check_ordinary(stage, 3)


def not_at_first(function: Callable[..., bool]) -> Callable[..., bool]:
    """Say no instead of waiting, once; so no time has to be short."""
    answers = iter([False])
    return lambda *args: next(answers, True) and function(*args)


@only("psycopg async")
@pytest.mark.parametrize("how", ["too slow", "given up"])
async def test_a_failed_request_whose_statement_cannot_be_ended_is_answered(
    stage: Stage, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does not hear of it in time; the client is told what failed, nothing else."""
    db, tasks = stage.real, []
    db._source.finish_timeout = 0.1

    async def cancel_safe(connection: AsyncConnection, **options: Any) -> None:
        if how == "too slow":
            await asyncio.sleep(1)
        else:
            connection.pgconn.finish()
            raise CancellationTimeout

    monkeypatch.setattr(AsyncConnection, "cancel_safe", cancel_safe)

    @stage.app.post("/")
    async def endpoint() -> None:
        await db.execute(text("SELECT 1"))
        tasks.append(asyncio.create_task(db.execute(text(stage.world.sleep(20)))))
        await asyncio.sleep(0)
        raise HTTPException(409)

    seen = await stage.ask()
    assert (seen.status, seen.answer.error) == (409, None)
    (ended,) = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ended, DBAPIError | DatabaseUnavailable)
    await check_ordinary(stage, 3)


# Locks that who comes second waits for; those of MariaDB are of all databases.
NAME = f"'dbscope_{secrets.token_hex(8)}'"
WAITS = {
    "postgresql": ("SELECT pg_advisory_lock(4711)", "SELECT pg_advisory_unlock(4711)"),
    "mysql": (f"SELECT GET_LOCK({NAME}, 50)", f"SELECT RELEASE_LOCK({NAME})"),
}


# -- two scopes ------------------------------------------------------------------------------------


@only(*SERVERS)
async def test_a_second_connection_is_counted_and_named_in_the_timeout(stage: Stage) -> None:
    """R13, decision 6: a scope in a scope takes a second connection; a full pool says so."""
    stage.remake(engine_options={"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1})
    told: list[str] = []

    def body() -> None:
        stage.insert("outer")
        with swallowed(PoolTimeout), stage.db.scope():
            try:
                stage.insert("inner")
            except PoolTimeout as error:
                told.append(str(error))
                raise

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["outer"])
    assert "A scope around it holds another one" in told[0]
    assert stage.real.stats()["second_connections"] == 1


@only(*SERVERS)
async def test_a_second_scope_is_independent_of_the_first(stage: Stage) -> None:
    """Decision 6: it commits though the request is rolled back; its connection is counted."""

    def body() -> None:
        stage.insert("outer")
        with stage.db.scope():
            stage.insert("inner")
        raise HTTPException(409)

    stage.route(body)
    seen = await stage.ask()
    assert (seen.status, seen.items) == (409, ["inner"])
    assert stage.real.stats()["second_connections"] == 1


@only("inline", "aiosqlite", "sqlite3")
async def test_a_second_writer_inside_the_first_is_refused_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """J7, 4.13: SQLite has one writer; waiting for oneself would be a deadlock."""
    from dbscope import TransactionManagementError

    monkeypatch.setattr(
        "dbscope.backends.sqlite.recipe.BUSY_TIMEOUT", 3600
    )  # nobody waits for that

    def body() -> None:
        stage.insert("outer")
        with swallowed(TransactionManagementError), stage.db.scope():
            stage.insert("inner")

    stage.route(body)
    with anyio.fail_after(40):
        seen = await stage.ask()
    assert (seen.status, seen.items) == (200, ["outer"])


@only(*ASYNC)
async def test_requests_do_not_see_each_others_scope(stage: Stage) -> None:
    """The box of each is its own, and nothing of it is left in the context of the server."""
    db = stage.real
    both = asyncio.Barrier(2)
    sessions: list[Any] = []

    @stage.app.get("/")
    async def endpoint() -> int:
        sessions.append(db.session)
        await both.wait()
        await db.execute(select(Item))
        assert current.get() is not None
        return id(db.session)

    first, second = await asyncio.gather(stage.ask("GET"), stage.ask("GET"))
    assert first.answer.body != second.answer.body
    assert sessions[0] is not sessions[1]
    assert current.get() is None


# -- siblings: what GraphQL makes of the fields of one request -----------------------------------


@only(*ASYNC, places=(ALONE, INSIDE))
@pytest.mark.parametrize("second", ["flush", "add", "execute"])
async def test_a_sibling_in_the_middle_of_a_flush_is_told_what_is_wrong(
    stage: Stage, second: str
) -> None:
    """Not SQLAlchemy's "already flushing", nor a warning; and the other one goes on."""
    db, inside, go_on = stage.real, asyncio.Event(), asyncio.Event()

    def wait_inside(*args: Any) -> None:
        inside.set()
        await_only(go_on.wait())

    async def write() -> None:
        db.session.add(Item(name="a"))
        await db.session.flush()

    async def sibling() -> str:
        await inside.wait()
        with pytest.raises(ConcurrentUse):
            if second == "execute":
                await db.execute(select(Item))
            elif second == "add":
                db.session.add(Item(name="b"))
            else:
                await db.session.flush()
        go_on.set()
        return "refused"

    @stage.app.post("/")
    async def endpoint() -> str:
        told = await asyncio.gather(write(), sibling())
        return str(told[1])

    event.listen(Item, "before_insert", wait_inside)
    try:
        seen = await stage.ask()
    finally:
        event.remove(Item, "before_insert", wait_inside)
    assert (seen.status, seen.answer.body, seen.items) == (200, b'"refused"', ["a"])


@only(*ASYNC, places=(ALONE, INSIDE))
async def test_a_refusal_is_not_lost_when_its_siblings_are_cancelled_for_it(stage: Stage) -> None:
    """graphql-core cancels them, and swallows it all: the error at the end names the refusal."""
    db = stage.real
    endless, has_begun = stage.endless(5)

    async def slow() -> None:
        await db.execute(text(endless))

    async def sibling() -> None:
        await eventually(has_begun)
        await db.execute(select(Item))

    @stage.app.post("/")
    async def endpoint() -> list[str]:
        tasks = [asyncio.create_task(slow()), asyncio.create_task(sibling())]
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        return [type(task.exception()).__name__ for task in done]

    seen = await stage.ask()
    assert isinstance(seen.answer.error, UnexpectedRollback)
    assert isinstance(seen.answer.error.__cause__, ConcurrentUse)
    assert seen.status == 500
