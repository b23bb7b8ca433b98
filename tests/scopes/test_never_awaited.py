"""A call that nobody has awaited has done nothing; whoever counted on it is told."""

import asyncio
import gc
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import BackgroundTasks, HTTPException
from sqlalchemy import insert, select

from dbscope import AsyncDatabase, DurableError, NeverAwaited
from tests.scopes.stage import ALONE, ASYNC, INSIDE, SERVERS, Stage, only
from tests.scopes.stage import work as do
from tests.worlds import Base, Item, both_context

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
]

ADD = insert(Item).values(name="forgotten")

FORGOTTEN: dict[str, Callable[[AsyncDatabase], object]] = {
    "db.execute": lambda db: db.execute(ADD),
    "db.scalar": lambda db: db.scalar(select(Item.id)),
    "db.release": lambda db: db.release(),
    "db.run": lambda db: db.run(partial(keep, db)),
    "db.gather": lambda db: db.gather(partial(keep, db)),
    "session.execute": lambda db: db.session.execute(ADD),
    "session.commit": lambda db: db.session.commit(),
    "session.flush": lambda db: db.session.flush(),
    "session.delete": lambda db: db.session.delete(Item()),
}


def drop(result: object) -> None:
    """Take what a call returns, and do nothing with it."""


async def keep(db: AsyncDatabase) -> None:
    await db.execute(insert(Item).values(name="kept"))


@only(*ASYNC)
@pytest.mark.parametrize("call", FORGOTTEN)
async def test_a_request_that_forgot_to_await_is_rolled_back(stage: Stage, call: str) -> None:
    """The answer would have said that it was done; the message names the call."""

    @stage.app.post("/")
    async def endpoint() -> None:
        await keep(stage.real)
        FORGOTTEN[call](stage.real)  # the lambda returns it, and here it is thrown away

    seen = await stage.ask()
    assert isinstance(seen.answer.error, NeverAwaited)
    assert f"`{call}()` was called" in str(seen.answer.error)
    assert (seen.status, seen.items) == (500, [])


@only(*ASYNC)
async def test_so_is_what_forgot_it_on_its_connection(stage: Stage) -> None:
    """`session.connection()` is awaited, and what is called on it is not."""

    @stage.app.post("/")
    async def endpoint() -> None:
        connection = await stage.real.session.connection()
        await keep(stage.real)
        connection.execute(ADD)

    seen = await stage.ask()
    assert isinstance(seen.answer.error, NeverAwaited)
    line = endpoint.__code__.co_firstlineno + 4
    told = f"`connection.execute()` was called at {__file__}:{line} and never awaited"
    assert told in str(seen.answer.error)
    assert (seen.status, seen.items) == (500, [])


@only(*ASYNC)
@pytest.mark.filterwarnings("ignore:.*ServerCursor")  # psycopg tells of it, too
@pytest.mark.parametrize("stream", ["stream", "stream_scalars"])
@pytest.mark.parametrize("read", ["all", "fetchmany", "close"])
async def test_so_is_what_forgot_it_on_a_result(stage: Stage, stream: str, read: str) -> None:
    """`session.stream()` is awaited, and its rows are not."""

    @stage.app.post("/")
    async def endpoint() -> None:
        await keep(stage.real)
        result = await getattr(stage.real.session, stream)(select(Item))
        getattr(result, read)()

    seen = await stage.ask()
    assert isinstance(seen.answer.error, NeverAwaited)
    assert f"`result.{read}()` was called" in str(seen.answer.error)
    assert (seen.status, seen.items) == (500, [])


@only(*ASYNC)
async def test_a_result_of_another_engine_is_not_ours(stage: Stage) -> None:
    """Python warns of it."""

    @stage.app.post("/")
    async def endpoint() -> None:
        await keep(stage.real)
        opened = stage.real.engine.connect()
        async with opened as connection, connection.stream(select(Item.id)) as result:
            result.all()

    seen = await stage.ask()
    assert (seen.answer.error, seen.items) == (None, ["kept"])


@only("inline")
async def test_the_line_is_named(stage: Stage) -> None:
    """Where the call stands, also in what the endpoint calls; a variable hides it."""

    @stage.app.post("/here")
    async def here() -> None:
        stage.real.execute(ADD)

    @stage.app.post("/variable")
    async def variable() -> None:
        kept = stage.real.execute(ADD)  # noqa: F841

    @stage.app.post("/plain")
    def plain() -> None:
        stage.real.session.execute(ADD)

    @stage.app.post("/elsewhere")
    async def elsewhere() -> None:
        await stage.real.execute(select(Item.id))
        variable_of_a_call()

    def variable_of_a_call() -> None:
        kept = [stage.real.execute(ADD)]  # noqa: F841

    line = elsewhere.__code__.co_firstlineno + 3
    told = f"in what was called at {__file__}:{line}, and"
    assert told in str((await stage.ask(path="/elsewhere")).answer.error)
    line = here.__code__.co_firstlineno + 2
    assert f"at {__file__}:{line} and" in str((await stage.ask(path="/here")).answer.error)
    assert "kept in a variable" in str((await stage.ask(path="/variable")).answer.error)
    assert f"at {__file__}:" in str((await stage.ask(path="/plain")).answer.error)


@only("inline")
async def test_so_is_a_function_of_the_application(stage: Stage) -> None:
    """One that a decorator of ours has made; others are Python's to warn of."""

    @stage.real.atomic
    async def transfer() -> None:
        await keep(stage.real)

    async def other() -> None: ...

    @stage.app.post("/")
    async def endpoint() -> None:
        transfer()

    @stage.app.post("/other")
    async def with_other() -> None:
        other()

    error = (await stage.ask()).answer.error
    assert isinstance(error, NeverAwaited)
    assert "transfer()`" in str(error)
    assert (await stage.ask(path="/other")).status == 200


@only("inline")
async def test_what_failed_anyway_is_answered_as_it_was(stage: Stage) -> None:
    """A 404 promises nothing."""

    @stage.app.post("/")
    async def endpoint() -> None:
        stage.real.execute(ADD)
        raise HTTPException(404)

    seen = await stage.ask()
    assert (seen.status, seen.answer.error) == (404, None)


@only("inline")
async def test_background_work_is_rolled_back_too(stage: Stage) -> None:
    """The answer has left by then, and the error goes to the server."""

    async def work() -> None:
        await keep(stage.real)
        stage.real.execute(ADD)

    @stage.app.post("/")
    async def endpoint(tasks: BackgroundTasks) -> None:
        tasks.add_task(work)

    seen = await stage.ask()
    assert seen.status == 200
    assert isinstance(seen.answer.error, NeverAwaited)
    assert stage.world.items() == []


async def test_a_scope_and_a_block_fail_where_they_end(tmp_path: Any) -> None:
    """The innermost of them; nothing of it is stored, and what is around may go on."""
    db = AsyncDatabase(f"sqlite:///{tmp_path}/a.db")
    await db.ensure_schema(Base.metadata)
    with pytest.raises(NeverAwaited, match=r"db\.execute\(\)"):
        async with db.scope():
            await keep(db)
            db.execute(ADD)
    async with db.scope():
        with pytest.raises(NeverAwaited):
            async with db.atomic():
                await keep(db)
                db.execute(ADD)
        assert await db.scalar(select(Item.name)) is None
    await db.dispose()


async def test_a_hook_is_told_as_well(tmp_path: Any) -> None:
    """By the error that its own scope ends with."""
    db = AsyncDatabase(f"sqlite:///{tmp_path}/a.db")
    await db.ensure_schema(Base.metadata)

    async def hook() -> None:
        db.execute(ADD)

    with pytest.raises(NeverAwaited, match="the hook"):
        async with db.scope():
            await keep(db)
            db.on_commit(hook)
    await db.dispose()


@pytest.mark.parametrize("block", [False, True])
async def test_before_commit_is_told_before_anything_is_stored(tmp_path: Any, block: bool) -> None:
    """It is part of the transaction, which what it has forgotten is missing from."""
    db = AsyncDatabase(f"sqlite:///{tmp_path}/a.db")
    await db.ensure_schema(Base.metadata)

    def hook() -> None:
        db.execute(ADD)

    with pytest.raises(NeverAwaited, match=r"db\.execute\(\)"):
        async with db.scope(), db.atomic() if block else nullcontext():
            await keep(db)
            db.before_commit(hook)
    async with db.scope():
        assert await db.scalar(select(Item.name)) is None
    await db.dispose()


NEVER_ENTERED = {
    "atomic": "db.atomic()",
    "atomic durable": "db.atomic(durable=True)",
    "atomic never": "db.atomic(propagation='never')",
    "atomic on several lines": "(\n    db\n    .atomic(\n        durable=True,\n    )\n)",
    "savepoint": "db.savepoint()",
    "scope": "db.scope()",
    "scope readonly": "db.scope(readonly=True)",
    "once": "db.once('key')",
    "with_lock": "db.with_lock(None)",
}


def state(statement: str, db: Any) -> None:
    """Run a statement of an application."""
    exec(compile(statement, __file__, "exec"), {"db": db})


@only(places=(ALONE, INSIDE))
@pytest.mark.parametrize("opened", NEVER_ENTERED)
async def test_a_block_that_nobody_has_entered_is_told_too(stage: Stage, opened: str) -> None:
    """What is written below `db.atomic()` without a `with` is in no block."""

    def work() -> None:
        stage.db.session.add(Item(name="kept"))
        state(NEVER_ENTERED[opened], stage.real)

    stage.route(work)
    seen = await stage.ask()
    assert isinstance(seen.answer.error, NeverAwaited)
    assert f"`db.{opened.partition(' ')[0]}()` was called at {__file__}:" in str(seen.answer.error)
    assert (seen.status, seen.items) == (500, [])


@only(*ASYNC)
@pytest.mark.parametrize("called", ["begin", "begin_nested"])
async def test_so_is_a_transaction_by_hand(stage: Stage, called: str) -> None:
    """What is written below is in no savepoint; one that is awaited or entered is."""

    @stage.app.post("/")
    async def endpoint() -> None:
        await keep(stage.real)
        state(f"db.session.{called}()", stage.real)

    @stage.app.post("/used")
    async def used() -> None:
        async with stage.real.session.begin_nested():
            await keep(stage.real)
        savepoint = await stage.real.session.begin_nested()
        await savepoint.commit()

    seen = await stage.ask()
    assert isinstance(seen.answer.error, NeverAwaited)
    assert f"`session.{called}()` was called at {__file__}:" in str(seen.answer.error)
    assert (seen.status, seen.items) == (500, [])
    assert (await stage.ask(path="/used")).answer.error is None


@only()
async def test_a_block_fails_for_a_block_that_nobody_has_entered(stage: Stage) -> None:
    """Before COMMIT: nothing of it is stored."""

    def work() -> None:
        with pytest.raises(NeverAwaited, match="never entered"), stage.db.atomic():
            stage.db.session.add(Item(name="kept"))
            stage.real.atomic(durable=True)

    stage.wire()
    await do(stage, work)
    assert stage.world.items() == []


@only()
async def test_what_was_used_in_any_way_was_not_forgotten(stage: Stage) -> None:
    """Entered, refused, or a decorator, be the function called or not."""
    db = stage.real

    def work() -> None:
        for opened in (db.atomic(), db.atomic(propagation="supports"), db.scope()):
            with both_context(opened):
                pass
        with (
            stage.db.atomic(),
            both_context(db.savepoint()),
            pytest.raises(DurableError),
            both_context(db.atomic(durable=True)),
        ):
            pytest.fail("it was entered")
        for decorator in (db.atomic(retry=2), db.atomic(durable=True), db.once("key"), db.scope()):
            decorator(stage.db.awaitable(lambda: None))
        stage.db.decorated(db.atomic(savepoint=False), lambda: None)()

    stage.route(work)
    assert (await stage.ask()).answer.error is None


class UnitOfWork:
    """Has a block, for who wants to enter it."""

    def __init__(self, db: Any) -> None:
        self.block = db.atomic()


def entered_sometimes(db: Any) -> None:
    block = db.atomic()
    if db is None:
        block.__enter__()


def one_of_several(db: Any) -> None:
    blocks = [db.atomic(), db.scope()]
    with both_context(blocks[0]):
        pass


def failed_before(db: Any) -> None:
    with pytest.raises(KeyError):
        drop((db.atomic(), {}["missing"]))


def refused(db: Any) -> None:
    with pytest.raises(TypeError):
        db.once("key")(None)


LEFT_OUT: dict[str, Callable[[Any], object]] = {
    "entered sometimes": entered_sometimes,
    "one of several": one_of_several,
    "an object for each request": lambda db: drop(UnitOfWork(db)),
    "what another request has made": lambda db: vars(db).pop("kept_by_a_test", None),
    "failed before": failed_before,
    "refused": refused,
    "looked at": lambda db: drop(isinstance(db.atomic(), str)),
}


@only(places=(ALONE,))
@pytest.mark.parametrize("how", LEFT_OUT)
async def test_what_was_kept_may_be_left_out_on_purpose(stage: Stage, how: str) -> None:
    """Good work would be lost by it; only a call that is a statement of its own cannot be meant."""
    vars(stage.real)["kept_by_a_test"] = UnitOfWork(stage.real)

    def work() -> None:
        stage.db.session.add(Item(name="kept"))
        LEFT_OUT[how](stage.real)

    stage.route(work)
    seen = await stage.ask()
    assert (seen.answer.error, seen.items) == (None, ["kept"])


@only(*SERVERS)
async def test_a_lock_that_nobody_has_taken_is_told_too(stage: Stage) -> None:
    """What is written below it is not alone."""

    def work() -> None:
        stage.db.session.add(Item(name="kept"))
        state("db.advisory_lock('key')", stage.real)

    stage.route(work)
    seen = await stage.ask()
    assert "`db.advisory_lock()` was called" in str(seen.answer.error)
    assert (seen.status, seen.items) == (500, [])


@only(*SERVERS)
async def test_nor_was_a_lock_that_was_taken(stage: Stage) -> None:
    """As a block, or as a decorator."""
    db = stage.real

    def work() -> None:
        with both_context(db.advisory_lock("key")):
            pass
        stage.db.decorated(db.advisory_lock("key"), lambda: None)()
        db.advisory_lock("key")(stage.db.awaitable(lambda: None))

    stage.route(work)
    assert (await stage.ask()).answer.error is None


KEPT: dict[str, Callable[[Any], object]] = {
    "list": lambda call: [call(), call()],
    "dict": lambda call: {"a": call()},
    "tuple": lambda call: (call(),),
    "set": lambda call: {call() for _ in "ab"},
    "object": lambda call: SimpleNamespace(kept=call()),
}


@pytest.mark.parametrize("how", KEPT)
async def test_calls_kept_in_something_are_noticed_with_it(tmp_path: Any, how: str) -> None:
    """Whoever has collected them and forgotten `gather` has done nothing."""
    db = AsyncDatabase(f"sqlite:///{tmp_path}/a.db")
    await db.ensure_schema(Base.metadata)
    with pytest.raises(NeverAwaited, match=r"db\.execute\(\)"):
        async with db.scope():
            await keep(db)
            drop(KEPT[how](lambda: db.execute(ADD)))
    async with db.scope():
        assert await db.scalar(select(Item.name)) is None
    await db.dispose()


async def test_what_was_cancelled_before_it_began_was_not_forgotten(tmp_path: Any) -> None:
    """A task was made of it."""
    db = AsyncDatabase(f"sqlite:///{tmp_path}/a.db")
    async with db.scope():
        task = asyncio.create_task(db.execute(ADD))
        task.cancel()
        await asyncio.wait([task])
    await db.dispose()


async def test_what_the_garbage_collector_finds_is_nobodys(tmp_path: Any) -> None:
    """It may come during another request than the one that has made it."""
    db = AsyncDatabase(f"sqlite:///{tmp_path}/a.db")
    circle: list[Any] = [db.execute(ADD)]
    circle.append(circle)
    del circle
    async with db.scope():
        gc.collect()
    await db.dispose()


def test_the_interpreter_still_asks() -> None:
    """By a private name of `warnings`: where there is none, nothing can be noticed."""
    AsyncDatabase("sqlite://")
    told: list[Any] = []

    async def function() -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warnings, "_warn_unawaited_coroutine", told.append)
        function()
    assert len(told) == 1
