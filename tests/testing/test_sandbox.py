"""In a sandbox each request, scope and block is what it always is; afterwards nothing was."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from fastapi import BackgroundTasks, Depends, HTTPException
from sqlalchemy import func, literal, select, text
from sqlalchemy import insert as core_insert
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.util import greenlet_spawn

from dbscope import (
    AttributeMismatch,
    ConfigurationError,
    DurableError,
    ManualCommitForbidden,
    ReadOnlyViolation,
    ScopeClosed,
    TransactionManagementError,
    UnexpectedRollback,
)
from dbscope.backends.registry import driver_of
from dbscope.engine import transaction
from dbscope.once import metadata
from tests.scopes.stage import ASYNC, SERVERS, close, handle_conflict
from tests.support.look import until
from tests.testing.conftest import NAMES, Booth
from tests.worlds import (
    MYSQL,
    SYNC,
    Both,
    Item,
    insert,
    is_postgresql,
    needs_late_check,
    waiting,
)

postgres = pytest.mark.worlds(drivers=is_postgresql)
servers = pytest.mark.worlds(drivers=lambda each: each in SERVERS)
asynchronous = pytest.mark.worlds(drivers=lambda each: each in ASYNC)


def a_shop(booth: Booth) -> list[str]:
    """Let the application store by name, refuse what is called so, and list; return the hooks."""
    stage, hooks = booth.stage, []

    def store(name: str) -> None:
        db = stage.db
        insert(db, name)
        db.on_commit(lambda: hooks.append(name))
        if name.startswith("refused"):
            raise HTTPException(409)

    def names() -> list[str]:
        return list(stage.db.scalars(select(Item.name).order_by(Item.id)))

    if stage.world.is_async:

        @stage.app.post("/items/{name}")
        async def async_store(name: str) -> None:
            await greenlet_spawn(store, name)

        @stage.app.get("/items")
        async def async_names() -> list[str]:
            return await greenlet_spawn(names)
    else:
        stage.app.post("/items/{name}")(store)
        stage.app.get("/items")(names)
    return hooks


# -- requests --------------------------------------------------------------------------------------


def test_a_request_commits_and_the_next_one_sees_it(booth: Booth) -> None:
    """The second has a session and a transaction of its own; nobody outside sees either."""
    a_shop(booth)
    with booth.real.sandbox():
        client = booth.client()
        assert client.post("/items/a").status_code == 200
        assert client.get("/items").json() == ["a"]
        assert client.post("/items/b").status_code == 200
        assert client.get("/items").json() == ["a", "b"]
        assert booth.stored() == []
    assert booth.stored() == []


def test_a_refused_request_undoes_its_own_work_only(booth: Booth) -> None:
    """Hooks too: they belong to the work."""
    hooks = a_shop(booth)
    with booth.real.sandbox():
        client = booth.client()
        client.post("/items/a")
        assert client.post("/items/refused").status_code == 409
        client.post("/items/b")
        assert client.get("/items").json() == ["a", "b"]
    assert hooks == ["a", "b"]


def test_a_failing_statement_is_of_its_request_only(booth: Booth) -> None:
    """On PostgreSQL it would else be the end of the transaction that holds all of it."""
    a_shop(booth)
    handle_conflict(booth.stage.app)
    with booth.real.sandbox():
        client = booth.client()
        client.post("/items/a")
        assert client.post("/items/a").status_code == 409
        client.post("/items/b")
        assert client.get("/items").json() == ["a", "b"]


@needs_late_check
def test_what_commit_looks_at_is_looked_at_by_the_commit_of_the_request(booth: Booth) -> None:
    """So the answer is the one of production, and the next request goes on."""
    a_shop(booth)
    handle_conflict(booth.stage.app)
    booth.stage.route(booth.stage.insert_orphan, "/orphans")
    with booth.real.sandbox():
        client = booth.client()
        client.post("/items/a")
        assert client.post("/orphans").status_code == 409
        assert client.get("/items").json() == ["a"]
        client.post("/items/b")
        assert client.get("/items").json() == ["a", "b"]


@postgres
def test_a_constraint_is_deferred_again_after_a_commit_has_looked(booth: Booth) -> None:
    """And one that is looked at at once, unless somebody defers it, is that again as well."""

    def story(db: Both) -> None:
        with db.scope():
            db.execute(text("CREATE TABLE one (n int UNIQUE DEFERRABLE INITIALLY IMMEDIATE)"))
            db.execute(text("INSERT INTO one VALUES (1)"))
        with db.scope():
            db.execute(text("SET CONSTRAINTS ALL DEFERRED"))
            db.execute(text("INSERT INTO one VALUES (2)"))
        with db.scope():
            with pytest.raises(IntegrityError):
                db.execute(text("INSERT INTO one VALUES (1)"))
            db.set_rollback()
        with db.scope():  # the child is before its parent
            db.execute(text("INSERT INTO child (item_id) VALUES (7)"))
            db.execute(text("INSERT INTO item (id, name) VALUES (7, 'late')"))

    with booth.real.sandbox():
        booth.run(story)


def test_a_hook_runs_at_the_commit_of_its_request(booth: Booth) -> None:
    """In a scope of its own: it sees what was committed, and what it writes is committed, too."""
    stage, seen = booth.stage, []

    def hook() -> None:
        seen.extend(stage.db.scalars(select(Item.name)))
        insert(stage.db, "of the hook")

    def work() -> None:
        insert(stage.db, "of the request")
        stage.db.on_commit(stage.task(hook))

    stage.route(work)
    with booth.real.sandbox():
        assert booth.client().post("/").status_code == 200
        assert seen == ["of the request"]
        assert booth.names() == ["of the request", "of the hook"]


def test_a_background_task_has_a_transaction_of_its_own(booth: Booth) -> None:
    """One that fails takes its own work with it, and nothing of the request's."""
    stage = booth.stage

    def good() -> None:
        insert(stage.db, "of the task")

    def bad() -> None:
        insert(stage.db, "of the failing one")
        raise RuntimeError

    def add(tasks: BackgroundTasks, task: Any) -> None:
        tasks.add_task(stage.task(task))

    def background(task: Any) -> Any:
        def work(tasks: BackgroundTasks) -> None:
            add(tasks, task)

        return work

    for name, task in (("good", good), ("bad", bad)):
        stage.route(
            lambda name=name: insert(stage.db, name) and None,
            f"/{name}",
            dependencies=[Depends(background(task))],
        )
    with booth.real.sandbox():
        client = booth.client(raise_server_exceptions=False)
        assert client.post("/good").status_code == 200
        assert client.post("/bad").status_code == 200
        assert booth.names() == ["good", "of the task", "bad"]


def test_the_lifespan_of_the_application_leaves_the_sandbox_alone(booth: Booth) -> None:
    """`with TestClient(app)` ends the application, which closes its pool."""
    a_shop(booth)
    with booth.real.sandbox():
        for name in "ab":
            with booth.client() as client:
                assert client.post(f"/items/{name}").status_code == 200
        assert booth.client().get("/items").json() == ["a", "b"]


def test_clients_at_once_take_turns(booth: Booth) -> None:
    """In threads, each with a loop of its own: nobody loses anything, and the refused one only."""
    a_shop(booth)

    def send(number: int) -> int:
        name = "refused" if number == 3 else f"item {number}"
        return booth.client().post(f"/items/{name}").status_code

    with booth.real.sandbox():
        booth.client()
        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(send, range(8)))
        assert statuses == [409 if number == 3 else 200 for number in range(8)]
        assert sorted(booth.names()) == [f"item {number}" for number in range(8) if number != 3]


@asynchronous
def test_an_async_client_sends_requests_at_once(booth: Booth) -> None:
    """In one loop with the test; each waits for the transaction of the other."""
    a_shop(booth)
    booth.stage.wire()

    async def story() -> None:
        async with booth.real.sandbox():
            transport = httpx2.ASGITransport(booth.stage.app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
                sent = [client.post(f"/items/{number}") for number in range(8)]
                assert {answer.status_code for answer in await asyncio.gather(*sent)} == {200}
                names = (await client.get("/items")).json()
                assert sorted(names) == [str(number) for number in range(8)]

    asyncio.run(story())
    assert booth.stored() == []


def test_the_companion_is_in_the_same_sandbox(booth: Booth) -> None:
    """`def` endpoints beside `async def` ones: what one has committed the other sees."""
    stage = booth.stage
    plain = stage.real.sync if stage.world.is_async else stage.real
    async_ = stage.real if stage.world.is_async else stage.real.async_

    @stage.app.post("/plain")
    def store_plainly() -> list[str]:
        plain.session.add(Item(name="plain"))
        plain.session.flush()
        return list(plain.session.scalars(select(Item.name)))

    @stage.app.post("/async")
    async def store() -> list[str]:
        async_.session.add(Item(name="async"))
        return list(await async_.session.scalars(select(Item.name).order_by(Item.id)))

    with booth.real.sandbox():
        client = booth.client()
        assert client.post("/plain").json() == ["plain"]
        assert client.post("/async").json() == ["plain", "async"]
        assert booth.names() == ["plain", "async"]
    assert booth.stored() == []


def test_sessions_of_the_companion_made_by_hand_are_in_it_too(booth: Booth) -> None:
    """Those of its factory, which belong to no scope: a script that the test calls, say."""
    stage = booth.stage
    companion = stage.real.sync if stage.world.is_async else stage.real.async_
    factory = companion.sessionmaker  # made before the sandbox

    def store_plainly() -> list[str]:
        with factory() as session:
            session.add(Item(name="by hand"))
            session.commit()
            session.add(Item(name="never"))
            session.flush()
            session.rollback()
            return list(session.scalars(select(Item.name)))

    async def store() -> list[str]:
        async with factory() as session:
            session.add(Item(name="by hand"))
            await session.commit()
            return list(await session.scalars(select(Item.name)))

    with booth.real.sandbox():
        seen = store_plainly() if stage.world.is_async else asyncio.run(store())
        assert seen == booth.names() == ["by hand"]
    assert booth.stored() == []


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_a_request_with_a_key_may_open_a_scope_inside(booth: Booth, ends: str) -> None:
    """The row of its key is written with its end, so nothing is in the way of the other one."""
    stage = booth.stage
    stage.install = {"idempotency": True}

    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        with stage.db.scope():
            insert(stage.db, f"inside {len(calls)}")
        insert(stage.db, "outside")
        if ends == "badly":
            raise HTTPException(409)
        return "done"

    stage.route(work)
    booth.run(lambda db: db.ensure_schema(metadata))
    with booth.real.sandbox():
        client = booth.client()
        first, again = (client.post("/", headers={"Idempotency-Key": "k"}) for _ in range(2))
        other = client.post("/", headers={"Idempotency-Key": "k"}, content="other")
        if ends == "well":
            assert [first.status_code, again.status_code, other.status_code] == [200, 200, 422]
            assert again.headers["idempotent-replayed"] == "true"
            assert booth.names() == ["inside 1", "outside"]
        else:
            assert [first.status_code, again.status_code, other.status_code] == [409] * 3
            assert booth.names() == ["inside 1", "inside 2", "inside 3"]
    assert booth.stored() == []


def test_a_request_with_a_key_that_commits_by_hand_has_stored_it(booth: Booth) -> None:
    """As ever: with the first work that is stored, so that nothing of it is done again."""
    stage = booth.stage
    stage.install = {"idempotency": True}

    def work() -> None:
        insert(stage.db, "a")
        stage.db.session.commit()
        raise HTTPException(409)

    stage.route(work)
    booth.run(lambda db: db.ensure_schema(metadata))
    with booth.real.sandbox():
        client = booth.client()
        answers = [client.post("/", headers={"Idempotency-Key": "k"}) for _ in range(2)]
        assert "not done to its end" in answers[1].json()["title"]
        assert booth.names() == ["a"]


# -- scopes and blocks -----------------------------------------------------------------------------


def test_a_scope_commits_and_another_sees_it(booth: Booth) -> None:
    """And an error takes the work of its own scope only."""

    def story(db: Both) -> list[str]:
        with db.scope():
            insert(db, "a")
        with pytest.raises(RuntimeError), db.scope():
            insert(db, "b")
            raise RuntimeError
        with db.scope():
            return list(db.scalars(NAMES))

    with booth.real.sandbox():
        assert booth.run(story) == ["a"]


def test_blocks_are_savepoints_in_it(booth: Booth) -> None:
    """A failed one is undone alone; one that swallows a failure is refused at the end."""

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
            with pytest.raises(IntegrityError), db.atomic():
                insert(db, "a")
            insert(db, "b")
        with pytest.raises(UnexpectedRollback), db.scope():
            insert(db, "c")
            with pytest.raises(IntegrityError):
                insert(db, "a")
        with db.scope():
            insert(db, "d")
            db.doom()

    with booth.real.sandbox():
        booth.run(story)
        assert booth.names() == ["a", "b"]


def test_what_a_block_asks_for_is_what_it_gets(booth: Booth) -> None:
    """`durable`, `isolation` and `readonly`, and what is refused of them."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            with db.atomic(durable=True):
                insert(db, "durable")
                with pytest.raises(DurableError), db.atomic(durable=True):
                    pass
            with db.atomic(isolation="SERIALIZABLE"):
                insert(db, "isolated")
                with pytest.raises(AttributeMismatch), db.atomic(isolation="READ COMMITTED"):
                    pass
            with pytest.raises(ReadOnlyViolation), db.atomic(readonly=True):
                insert(db, "never")
        with db.scope(readonly=True):
            assert list(db.scalars(NAMES)) == ["durable", "isolated"]

    with booth.real.sandbox():
        booth.run(story)
        assert booth.names() == ["durable", "isolated"]


def test_a_read_only_scope_refuses_what_only_the_database_sees(booth: Booth) -> None:
    """By hand on the connection; and who comes next can write."""

    def story(db: Both) -> None:
        with pytest.raises(ReadOnlyViolation), db.scope(atomic=False), db.atomic(readonly=True):
            list(db.scalars(NAMES))
            connection = db.session.connection()
            sync = getattr(connection, "sync_connection", connection)
            sync.exec_driver_sql("INSERT INTO item (name) VALUES ('never')")
        with db.scope():
            insert(db, "after")

    with booth.real.sandbox():
        booth.run(story)
        assert booth.names() == ["after"]


def test_a_connection_is_given_back_and_taken_again(booth: Booth) -> None:
    """`release` where nothing was written, and a commit by hand before it."""

    def story(db: Both) -> None:
        with db.scope():
            assert list(db.scalars(NAMES)) == []
            db.release()
            insert(db, "a")
            db.session.commit()
            db.release()
            assert list(db.scalars(NAMES)) == ["a"]

    with booth.real.sandbox():
        booth.run(story)


def test_commits_by_hand_are_commits(booth: Booth) -> None:
    """With their hooks, and what is rolled back by hand is that; inside `atomic` still refused."""
    hooks: list[str] = []

    def story(db: Both) -> None:
        with pytest.raises(RuntimeError), db.scope():
            insert(db, "a")
            db.on_commit(lambda: hooks.append("a"))
            db.session.commit()
            assert hooks == ["a"]
            insert(db, "b")
            db.session.rollback()
            insert(db, "c")
            raise RuntimeError
        with db.scope(), db.session.begin():
            insert(db, "d")
        with db.scope():
            with pytest.raises(RuntimeError), db.session.begin_nested():
                insert(db, "e")
                raise RuntimeError
            insert(db, "f")
            with db.atomic(), pytest.raises(ManualCommitForbidden):
                db.session.commit()

    with booth.real.sandbox():
        booth.run(story)
        assert booth.names() == ["a", "d", "f"]


def test_in_autocommit_each_statement_is_one(booth: Booth) -> None:
    """A flush that fails leaves nothing, and what was done before stays."""

    def story(db: Both) -> None:
        with pytest.raises(IntegrityError), db.scope(atomic=False):
            db.execute(core_insert(Item).values(name="a"))
            db.session.add_all([Item(name="b"), Item(name="a")])
            db.session.flush()
        with db.scope(atomic=False):
            db.execute(core_insert(Item).values(name="c"))

    with booth.real.sandbox():
        booth.run(story)
        assert booth.names() == ["a", "c"]


def test_a_result_is_read_in_pieces(booth: Booth) -> None:
    """From a cursor at the server, where there is one."""

    def story(db: Both) -> None:
        with db.scope():
            db.session.add_all([Item(name=f"{number:03}") for number in range(200)])
        with db.scope():
            options = {"yield_per": 10}
            if db.is_async:
                result = db.session.stream_scalars(
                    select(Item.name).order_by(Item.id), execution_options=options
                )
                names = [result]
            else:
                names = list(
                    db.session.scalars(
                        select(Item.name).order_by(Item.id), execution_options=options
                    )
                )
                assert names == [f"{number:03}" for number in range(200)]

    with booth.real.sandbox():
        booth.run(story) if booth.stage.world.driver in SYNC else asyncio.run(streamed(booth.real))


async def streamed(db: Any) -> None:
    """Read in pieces, by async code."""
    async with db.scope():
        db.session.add_all([Item(name=f"{number:03}") for number in range(200)])
    async with db.scope():
        result = await db.session.stream_scalars(
            select(Item.name).order_by(Item.id), execution_options={"yield_per": 10}
        )
        assert [name async for name in result] == [f"{number:03}" for number in range(200)]


def test_connections_by_hand_are_in_it(booth: Booth) -> None:
    """`db.engine`, and sessions that its factory makes for no scope."""

    def story(db: Both) -> None:
        engine = getattr(db.real.engine, "sync_engine", db.real.engine)
        with engine.begin() as connection:
            connection.execute(core_insert(Item).values(name="by engine"))
        with engine.connect() as connection:
            connection.execute(core_insert(Item).values(name="never"))
        with pytest.raises(RuntimeError), engine.begin() as connection:
            connection.execute(core_insert(Item).values(name="never"))
            raise RuntimeError

    with booth.real.sandbox():
        booth.run(story)
        assert booth.names() == ["by engine"]
    assert booth.stored() == []


# -- one connection --------------------------------------------------------------------------------


def test_a_scope_of_the_test_that_has_read_lets_a_request_through(booth: Booth) -> None:
    """It goes on afterwards, and sees what the request has committed."""
    a_shop(booth)

    def story(db: Both) -> None:
        client = booth.client()
        with db.scope():
            assert list(db.scalars(NAMES)) == []
            assert client.post("/items/a").status_code == 200
            assert list(db.scalars(NAMES)) == ["a"]
            assert client.post("/items/refused").status_code == 409
            assert list(db.scalars(NAMES)) == ["a"]

    with booth.real.sandbox():
        booth.run(story)


@servers
def test_so_does_one_that_has_read_a_stream_to_its_end(booth: Booth) -> None:
    """In the middle of it, the rest of the rows would be lost."""
    a_shop(booth)

    def story(db: Both) -> None:
        client = booth.client()
        with db.scope():
            ask = db.session.stream_scalars if db.is_async else db.session.scalars
            result = ask(NAMES, execution_options={"yield_per": 1})
            assert waiting(result.fetchmany)(1) == ["a"]
            with pytest.raises(TransactionManagementError, match=r"POST /items/c .*the scope open"):
                client.post("/items/c")
            assert list(waiting(result.all)()) == ["b"]
            assert client.post("/items/c").status_code == 200
            assert list(db.scalars(NAMES)) == ["a", "b", "c"]

    with booth.real.sandbox():
        client = booth.client()
        assert {client.post(f"/items/{name}").status_code for name in "ab"} == {200}
        booth.run(story)
    assert booth.stored() == []


def test_a_request_inside_a_scope_that_has_written_is_refused(booth: Booth) -> None:
    """At once, by a sentence that names both; and what the scope has done is as it was."""
    a_shop(booth)

    def story(db: Both) -> None:
        client = booth.client()
        with db.scope():
            insert(db, "of the test")
            with pytest.raises(TransactionManagementError, match=r"POST /items/a .*the scope open"):
                client.post("/items/a")
            db.session.commit()
            assert client.post("/items/b").status_code == 200

    with booth.real.sandbox():
        booth.run(story)
        assert booth.names() == ["of the test", "b"]


def test_a_scope_inside_one_that_has_written_is_refused(booth: Booth) -> None:
    """Its own connection would be the same one."""

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
            with (
                pytest.raises(TransactionManagementError, match="one transaction at a"),
                db.scope(),
            ):
                insert(db, "b")
            insert(db, "c")

    with booth.real.sandbox():
        booth.run(story)
        assert booth.names() == ["a", "c"]


@servers
def test_sandboxes_at_once_do_not_see_each_other(booth: Booth) -> None:
    """In threads, each with its own connection: a request is in the one that it was sent in."""
    a_shop(booth)
    booth.client()
    both = threading.Barrier(2, timeout=30)

    def try_one(name: str) -> list[str]:
        with booth.real.sandbox():
            client = booth.client()
            client.post(f"/items/{name}")
            both.wait()
            names: list[str] = client.get("/items").json()
            both.wait()
            return names

    with ThreadPoolExecutor(2) as pool:
        tried = [pool.submit(try_one, name) for name in "ab"]
        # Of both, since who waits for the other fails too, and says nothing of why.
        assert [each.exception() for each in tried] == [None, None]
    assert [each.result() for each in tried] == [["a"], ["b"]]
    assert booth.stored() == []


@servers
def test_an_answer_for_another_thread_is_not_read_away(
    booth: Booth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has come while one thread ends its scope may be what another one waits for."""
    read: list[object] = []
    kind = type(driver_of(booth.real._source.sync_engine.dialect))
    monkeypatch.setattr(transaction, "has_unread_bytes", lambda *_: True)
    monkeypatch.setattr(kind, "read_goodbye", lambda _, connection, __: read.append(connection))
    with booth.real.sandbox():
        booth.run(lambda db: db.run(lambda: insert(db, "a")))
        assert booth.names() == ["a"]
    assert read == []


@servers
def test_code_of_no_sandbox_is_refused_while_there_are_several(booth: Booth) -> None:
    """Nobody can tell whose it is; with its context it is known, and one alone is the one."""

    def elsewhere() -> str:
        try:
            booth.names()
        except ConfigurationError as error:
            return str(error)
        return "fine"

    def in_thread(run: Any) -> str:
        with ThreadPoolExecutor(1) as pool:
            return str(pool.submit(run, elsewhere).result())

    outside = contextvars.copy_context()
    with booth.real.sandbox():
        assert in_thread(lambda work: work()) == "fine"
        other = booth.real.sandbox()
        outside.run(lambda: ThreadPoolExecutor(1).submit(other.open).result())
        try:
            assert "2 sandboxes" in in_thread(lambda work: work())
            assert in_thread(contextvars.copy_context().run) == "fine"
        finally:
            other.close()


@pytest.mark.parametrize("later", ["in another sandbox", "in none"])
def test_code_that_outlives_its_sandbox_is_refused(booth: Booth, later: str) -> None:
    """What it did would be a part of the next test, or would be stored for good."""
    with booth.real.sandbox():
        straggler = contextvars.copy_context()

    def run() -> str:
        try:
            booth.names()
        except ConfigurationError as error:
            return str(error)
        return "fine"

    def in_its_thread() -> str:
        with ThreadPoolExecutor(1) as pool:
            return str(pool.submit(straggler.run, run).result())

    if later == "in none":
        assert "has ended" in in_its_thread()
    else:
        with booth.real.sandbox():
            assert "has ended" in in_its_thread()
            assert booth.names() == []
    assert run() == "fine"


def test_a_thread_that_outlives_its_sandbox_is_refused(booth: Booth) -> None:
    """Threads have no context of who has started them; one of a pool may be anybody's."""
    go, told = threading.Event(), []

    def run() -> None:
        told.append(booth.names())
        go.wait(30)
        try:
            booth.names()
        except ConfigurationError as error:
            told.append(str(error))

    with ThreadPoolExecutor(1) as pool:
        with booth.real.sandbox():
            booth.run(lambda db: db.run(lambda: insert(db, "a")))
            stray = threading.Thread(target=run)
            stray.start()
            assert pool.submit(booth.names).result() == ["a"]
            assert until(lambda: bool(told))
        go.set()
        stray.join()
        assert pool.submit(booth.names).result() == []
    assert told[0] == ["a"]
    assert "This thread was started in a sandbox that has ended" in told[1]
    assert booth.stored() == []


def test_a_sandbox_in_a_sandbox_ends_alone(booth: Booth) -> None:
    """What a module, or a whole run, has prepared is there for each test, as it was."""
    a_shop(booth)
    with booth.real.sandbox():
        client = booth.client()
        client.post("/items/for-all")
        for _ in range(2):
            with booth.real.sandbox():
                client.post("/items/for-one")
                assert client.get("/items").json() == ["for-all", "for-one"]
            assert client.get("/items").json() == ["for-all"]
    assert booth.stored() == []


def test_a_sandbox_ends_with_the_one_around_it(booth: Booth) -> None:
    """Whoever closes it afterwards has nothing to do, and nothing is left."""
    a_shop(booth)
    around, inside = booth.real.sandbox(), booth.real.sandbox()
    around.open()
    booth.client().post("/items/for-all")
    inside.open()
    booth.client().post("/items/for-one")
    around.close()
    inside.close()
    assert booth.stored() == []


def test_a_sandbox_is_not_opened_in_the_middle_of_a_transaction(booth: Booth) -> None:
    """It would be a savepoint of that, and end with it."""

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
            with pytest.raises(TransactionManagementError, match="A sandbox was opened"):
                db.real.sandbox().open()

    with booth.real.sandbox():
        booth.run(story)
        assert booth.names() == ["a"]


def test_what_was_not_committed_is_told_when_it_is_used_after_the_end(booth: Booth) -> None:
    """A session outlives its sandbox: once it is an error, and then it goes on in the next one."""
    engine = getattr(booth.real.engine, "sync_engine", booth.real.engine)

    def story(db: Both) -> None:
        sandbox = db.real.sandbox()
        sandbox.open()
        connection = engine.connect()
        connection.execute(core_insert(Item).values(name="a"))
        greenlet_close(db, sandbox)
        with db.real.sandbox():
            with pytest.raises(ScopeClosed, match="rolled back at the end"):
                connection.execute(NAMES)
            connection.rollback()
            assert list(connection.scalars(NAMES)) == []
            connection.close()

    booth.run(story)


def greenlet_close(db: Both, sandbox: Any) -> None:
    """End a sandbox in the middle of a story."""
    sandbox.__exit__(None, None, None)


# -- the database ----------------------------------------------------------------------------------


@postgres
def test_what_a_transaction_has_set_for_itself_ends_with_it(booth: Booth) -> None:
    """RELEASE would keep it: it is set back."""

    def story(db: Both) -> None:
        show = text("SHOW statement_timeout")
        with db.scope():
            before = db.scalar(show)
            db.execute(text("SET LOCAL statement_timeout TO 12345"))
            insert(db, "a")
        with db.scope():
            assert db.scalar(show) == before
            with db.atomic(timeout=60):
                insert(db, "b")
        with db.scope():
            assert db.scalar(show) == before

    with booth.real.sandbox():
        booth.run(story)


@postgres
@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ("SET LOCAL TIME ZONE 'Asia/Tokyo'", "SHOW timezone"),
        ("set local role pg_monitor", "SHOW role"),
        ("SET LOCAL SESSION AUTHORIZATION pg_monitor", "SHOW session_authorization"),
        ("SET LOCAL SCHEMA 'pg_catalog'", "SHOW search_path"),
        ("SELECT set_config('user.id', 'seven', true)", "SELECT current_setting('user.id', true)"),
        ("SELECT set_config('a.b', 'c, (d)', TRUE)", "SELECT current_setting('a.b', true)"),
    ],
)
def test_whatever_is_set_for_a_transaction_ends_with_it(
    booth: Booth, told: str, asked: str
) -> None:
    """In each way to write it, and whatever words its name is made of."""

    def story(db: Both) -> None:
        with db.scope():
            before = db.scalar(text(asked))
            db.execute(text(told))
            assert db.scalar(text(asked)) != before
        with db.scope():
            assert (db.scalar(text(asked)) or "") == (before or "")

    with booth.real.sandbox():
        booth.run(story)


@postgres
def test_what_is_set_for_the_session_stays_until_the_sandbox_ends(booth: Booth) -> None:
    """The last argument of `set_config` tells, written or bound."""

    def story(db: Both) -> None:
        with db.scope():
            db.execute(text("SELECT set_config('app.a', 'stays', false)"))
            db.execute(select(func.set_config("app.b", "stays", literal(value=False))))
        with db.scope():
            assert db.scalar(text("SELECT current_setting('app.a')")) == "stays"
            assert db.scalar(text("SELECT current_setting('app.b')")) == "stays"

    with booth.real.sandbox():
        booth.run(story)


@postgres
@pytest.mark.parametrize("tenant", ["acme", "t1", "a.b", "user", "7", "Ärger, (GmbH)"])
def test_a_tenant_may_have_any_name_in_it(booth: Booth, tenant: str) -> None:
    """A value of `session_settings` is never taken for the name of a setting."""
    asked = text("SELECT current_setting('app.tenant', true)")
    database = type(booth.real)
    told = database(booth.stage.world.url, session_settings=lambda: {"app.tenant": tenant})

    def story(db: Both) -> None:
        for _ in range(2):
            with db.scope():
                assert db.scalar(asked) == tenant
                insert(db, f"{db.scalar(select(func.count(Item.id)))}")

    booth.stage.world.database, known = told, booth.stage.world.database
    try:
        with told.sandbox():
            booth.run(story)
    finally:
        asyncio.run(close(told))
        booth.stage.world.database = known


@postgres
def test_tables_can_be_made_in_it(booth: Booth) -> None:
    """They are gone afterwards, as all is."""

    def story(db: Both) -> None:
        with db.scope():
            db.execute(text("CREATE TABLE for_now (n int)"))
        with db.scope():
            assert db.scalar(text("SELECT count(*) FROM for_now")) == 0

    with booth.real.sandbox():
        booth.run(story)
    assert booth.stage.world.look.scalar("SELECT to_regclass('for_now')") is None


@pytest.mark.worlds(drivers=lambda each: each in MYSQL)
def test_what_commits_by_itself_is_not_sent(booth: Booth) -> None:
    """The sandbox would be over, and what was done in it stored."""

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
        with pytest.raises(TransactionManagementError, match="CREATE"), db.scope():
            db.execute(text("CREATE TABLE for_ever (n int)"))

    with booth.real.sandbox():
        booth.run(story)
        assert booth.names() == ["a"]
    assert booth.stored() == []


@pytest.mark.worlds(drivers=lambda each: each in ASYNC and is_postgresql(each))
def test_a_cancelled_statement_takes_its_own_transaction_with_it(booth: Booth) -> None:
    """And the sandbox goes on."""

    async def story() -> None:
        async with booth.real.sandbox():
            async with booth.real.scope():
                await booth.real.execute(core_insert(Item).values(name="a"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), booth.real.scope():
                    await booth.real.execute(core_insert(Item).values(name="b"))
                    await booth.real.execute(text("SELECT pg_sleep(30)"))
            async with booth.real.scope():
                assert list(await booth.real.scalars(NAMES)) == ["a"]

    asyncio.run(story())


def test_it_costs_nothing_until_it_is_used(booth: Booth) -> None:
    """No connection is taken by a sandbox in which nothing is asked."""
    before = booth.clients()
    with booth.real.sandbox():
        assert booth.clients() == before


def test_an_error_leaves_it_as_it_was(booth: Booth) -> None:
    """A failing test is reported, and not what its sandbox had to undo."""

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
        raise RuntimeError

    with pytest.raises(RuntimeError), booth.real.sandbox():
        booth.run(story)
    assert booth.stored() == []


def test_errors_of_the_database_are_the_same(booth: Booth) -> None:
    """Of the driver's class, with its code."""

    def story(db: Both) -> None:
        with pytest.raises(DBAPIError, match="no_such_table"), db.scope():
            db.execute(text("SELECT * FROM no_such_table"))

    with booth.real.sandbox():
        booth.run(story)


@pytest.mark.timeout(180)
@pytest.mark.worlds(drivers=lambda each: each in {"psycopg async", "psycopg sync", "asyncpg"})
def test_a_hundred_leave_no_connection_and_no_row(booth: Booth) -> None:
    """One connection is kept from each to the next, and closed with the database."""
    a_shop(booth)
    client, before = booth.client(), booth.clients()
    for _ in range(100):
        with booth.real.sandbox():
            assert client.post("/items/a").status_code == 200
    assert booth.stored() == []
    assert len(booth.clients() - before) == 1
    assert booth.stage.world.look.idle_in_transaction(patience=1) == []
