"""A transaction begins by one door: what it is asked to be, it is, whatever comes first in it.

Each test tries all of `tests.doors.ACTS`, and lets the server say what it was told.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI
from sqlalchemy import create_engine, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only, greenlet_spawn

from dbscope import (
    ConfigurationError,
    DatabaseUnavailable,
    PoolTimeout,
    ReadOnlyViolation,
    TransactionManagementError,
)
from tests.asgi import call
from tests.doors import ACTS, IN_A_TRANSACTION, OLD, Act, Note, add, flush, open_doors, plain, told
from tests.worlds import (
    Both,
    World,
    is_postgresql,
    is_sqlite,
    plain_engine,
    record_statements,
)

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
ISOLATION = ["SERIALIZABLE", "REPEATABLE READ"]
SERVERS = pytest.mark.worlds(drivers=lambda driver: not is_sqlite(driver), places=["scope"])
POSTGRES = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
SCOPES = pytest.mark.worlds(places=["scope"])


@pytest.fixture(autouse=True)
def tables(world: World) -> None:
    """Have the tables and their triggers."""
    open_doors(world)


def again(world: World) -> None:
    """Have the row that acts change or delete."""
    if not world.look.rows("SELECT id FROM door_note WHERE id = ?", OLD):
        world.look.execute("INSERT INTO door_note VALUES (?, 'old')", OLD)
    told(world, "id")


def after_each(
    world: World, acts: list[Act], run: Callable[[Act], Any], column: str
) -> dict[str, set[Any]]:
    """Return what the server says of each act's transactions."""
    found = {}
    for act in acts:
        again(world)
        run(act)
        found[act.__name__] = told(world, column)
    return found


def all_are(acts: list[Act], value: Any) -> dict[str, set[Any]]:
    """Return what is to be found if each act's transactions were told one thing."""
    return {act.__name__: {value} for act in acts}


def with_settings(world: World, **settings: Any) -> None:
    """Let the world have a database with these settings."""
    world.database = type(world.database)(world.url, **settings)
    record_statements(world)


# -- asked = had -----------------------------------------------------------------------------------


@SERVERS
@pytest.mark.parametrize("level", ISOLATION)
def test_the_isolation_that_a_block_asks_for_is_had_whatever_comes_first(
    world: World, level: str
) -> None:
    """B16: statement, flush, flush in COMMIT, delete, merge, cascade, bulk, savepoint, …"""

    def story(db: Both) -> None:
        def run(act: Act) -> None:
            with db.scope(atomic=False), db.atomic(isolation=level):
                act(db)

        found = after_each(world, IN_A_TRANSACTION, run, "isolation")
        assert found == all_are(IN_A_TRANSACTION, level)

    world.play(story)


@SERVERS
def test_the_time_that_a_block_asks_for_is_known_to_the_server_whatever_comes_first(
    world: World,
) -> None:
    """But for what COMMIT itself sends: it may take as long as it needs on a server that asks."""

    def story(db: Both) -> None:
        def run(act: Act) -> None:
            with db.scope(atomic=False), db.atomic(timeout=1000):
                act(db)

        for act, seconds in after_each(world, IN_A_TRANSACTION, run, "seconds").items():
            assert all(900 < each <= 1000 for each in seconds), (act, seconds)

    world.play(story)


@SCOPES
@pytest.mark.parametrize("how", ["session", "transaction"])
def test_a_block_cannot_be_made_to_autocommit(world: World, how: str) -> None:
    """By an option of its connection: what was done would stay, though the block is undone."""

    def story(db: Both) -> None:
        with pytest.raises(ConfigurationError, match="AUTOCOMMIT"), db.scope(), db.atomic():
            options = {"isolation_level": "AUTOCOMMIT"}
            if how == "session":
                db.session.connection(execution_options=options)
            else:
                add(db)
                transaction: Any = plain(db).get_transaction()
                transaction.connection(Note, execution_options=options)
        assert list(world.look.rows("SELECT text FROM door_note")) == [("old",)]

    world.play(story)


@SERVERS
def test_a_level_that_is_given_by_hand_is_the_one_that_the_block_has_asked_for(
    world: World,
) -> None:
    """Else the block would not have what it asked for; without a wish of the block it is had."""

    def story(db: Both) -> None:
        options = {"isolation_level": "SERIALIZABLE"}
        repeatable = db.atomic(isolation="REPEATABLE READ")
        with pytest.raises(ConfigurationError), db.scope(atomic=False), repeatable:
            db.session.connection(execution_options=options)
        with db.scope():
            db.session.connection(execution_options=options)
            add(db)
        assert told(world, "isolation") == {"SERIALIZABLE"}

    world.play(story)


# -- who the transaction is for --------------------------------------------------------------------


def in_scope(world: World, db: Both, act: Act) -> None:
    with db.scope():
        act(db)


def in_autocommit(world: World, db: Both, act: Act) -> None:
    with db.scope(atomic=False):
        act(db)


def in_block(world: World, db: Both, act: Act) -> None:
    with db.scope(), db.atomic():
        act(db)


def in_block_of_autocommit(world: World, db: Both, act: Act) -> None:
    with db.scope(atomic=False), db.atomic():
        act(db)


def in_savepoint(world: World, db: Both, act: Act) -> None:
    with db.scope(), db.savepoint():
        act(db)


def in_a_block_alone(world: World, db: Both, act: Act) -> None:
    with db.atomic():
        act(db)


def in_scope_of_a_scope(world: World, db: Both, act: Act) -> None:
    with db.scope(), db.scope():
        act(db)


def requires_new(world: World, db: Both, act: Act) -> None:
    with db.scope(), db.atomic(propagation="requires_new"):
        act(db)


def as_another(db: Both, act: Act) -> None:
    """Be somebody else for a transaction before."""
    who = tenant.get()
    tenant.set("before")
    act(db)
    tenant.set(who)


def after_commit(world: World, db: Both, act: Act) -> None:
    with db.scope():
        as_another(db, read)
        db.session.commit()
        act(db)


def after_rollback(world: World, db: Both, act: Act) -> None:
    with db.scope():
        as_another(db, read)
        db.session.rollback()
        act(db)


def after_release(world: World, db: Both, act: Act) -> None:
    with db.scope():
        as_another(db, read)
        db.release()
        act(db)


def after_begin_nested(world: World, db: Both, act: Act) -> None:
    with db.scope(), db.session.begin_nested():
        act(db)


def by_session_begin(world: World, db: Both, act: Act) -> None:
    with db.scope(atomic=False), db.session.begin():
        act(db)


def in_before_commit(world: World, db: Both, act: Act) -> None:
    with db.scope():
        db.before_commit(lambda: act(db))


def in_before_commit_of_a_commit(world: World, db: Both, act: Act) -> None:
    with db.scope():
        as_another(db, read)
        db.session.commit()
        db.before_commit(lambda: act(db))
        db.session.commit()


def in_on_commit(world: World, db: Both, act: Act) -> None:
    with db.scope():
        as_another(db, read)
        db.on_commit(lambda: act(db))


def in_on_commit_of_a_commit(world: World, db: Both, act: Act) -> None:
    with db.scope():
        as_another(db, read)
        db.on_commit(lambda: act(db))
        db.session.commit()


def in_on_rollback(world: World, db: Both, act: Act) -> None:
    with db.scope():
        as_another(db, read)
        db.on_rollback(lambda: act(db))
        db.set_rollback()


def in_request(world: World, db: Both, act: Act) -> None:
    _served(db, act, lambda function: function)


def in_autocommit_request(world: World, db: Both, act: Act) -> None:
    _served(db, act, db.real.non_atomic_requests)


def in_tail(world: World, db: Both, act: Act) -> None:
    _served(db, act, lambda function: function, in_background=True)


def in_call(world: World, db: Both, act: Act) -> None:
    """As a job: a decorated function."""

    def job() -> None:
        act(db)

    db.decorated(db.real.scope(), job)()


def in_retry(world: World, db: Both, act: Act) -> None:
    """As the second attempt."""
    attempts = []

    def work() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            as_another(db, read)
            raise Conflict("40001")
        act(db)

    db.run(work)


def _served(
    db: Both, act: Act, decorator: Callable[..., Any], *, in_background: bool = False
) -> None:
    app = FastAPI()
    body = carried(db, act)

    if db.is_async:

        @app.post("/")
        @decorator
        async def endpoint(tasks: BackgroundTasks) -> None:
            if in_background:
                await greenlet_spawn(as_another, db, read)
                tasks.add_task(body)
            else:
                await body()
    else:

        @app.post("/")
        @decorator
        def plain_endpoint(tasks: BackgroundTasks) -> None:
            if in_background:
                as_another(db, read)
                tasks.add_task(body)
            else:
                body()

    db.real.install(app)
    answer = call(app, "POST", "/")
    if db.is_async:
        await_only(answer)
    else:
        asyncio.run(answer)


def carried(db: Both, act: Act) -> Callable[[], Any]:
    """Return the act as a function of the database's kind."""
    if not db.is_async:
        return lambda: act(db)

    async def run() -> None:
        await greenlet_spawn(act, db)

    return run


def read(db: Both) -> None:
    db.scalar(select(func.count()).select_from(Note))


class Conflict(Exception):
    """What any driver's serialization failure is to us."""

    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


WAYS = [
    in_scope,
    in_autocommit,
    in_block,
    in_block_of_autocommit,
    in_savepoint,
    in_a_block_alone,
    in_scope_of_a_scope,
    requires_new,
    after_commit,
    after_rollback,
    after_release,
    after_begin_nested,
    by_session_begin,
    in_before_commit,
    in_before_commit_of_a_commit,
    in_on_commit,
    in_on_commit_of_a_commit,
    in_on_rollback,
    in_request,
    in_autocommit_request,
    in_tail,
    in_call,
    in_retry,
]


@POSTGRES
@pytest.mark.parametrize("way", WAYS)
def test_a_transaction_is_told_who_it_is_for_whatever_begins_it(
    world: World, way: Callable[[World, Both, Act], None]
) -> None:
    """`session_settings`: each transaction of each way, by each act, and nothing from before."""
    with_settings(world, session_settings=lambda: {"app.tenant": tenant.get()})

    def story(db: Both) -> None:
        def run(act: Act) -> None:
            tenant.set(f"for {act.__name__}")
            way(world, db, act)

        found = after_each(world, ACTS, run, "tenant")
        assert found == {act.__name__: {f"for {act.__name__}"} for act in ACTS}

    world.play(story)


@POSTGRES
def test_two_who_add_and_then_count_cannot_both_be_right(world: World) -> None:
    """The write skew that SERIALIZABLE is asked for: a conflict, though each began by a flush."""

    def story(db: Both) -> None:
        together = world.barrier(2)

        def book() -> str:
            try:
                with db.scope(atomic=False), db.atomic(isolation="SERIALIZABLE"):
                    add(db)
                    read(db)
                    together()
            except Exception as error:
                return "again" if db.real.is_retryable(error) else repr(error)
            return "booked"

        assert sorted(world.at_once(book, book)) == ["again", "booked"]

    world.play(story)


# -- what nobody may write in ----------------------------------------------------------------------


def by_scope(world: World, db: Both, act: Act) -> None:
    with db.scope(readonly=True):
        act(db)


def by_block(world: World, db: Both, act: Act) -> None:
    with db.scope(atomic=False), db.atomic(readonly=True):
        act(db)


def by_block_inside(world: World, db: Both, act: Act) -> None:
    with db.scope(readonly=True), db.atomic():
        act(db)


def by_route(world: World, db: Both, act: Act) -> None:
    _served(db, act, db.real.readonly)


@SCOPES
@pytest.mark.parametrize("way", [by_scope, by_block, by_block_inside, by_route])
@pytest.mark.parametrize("given", ["url", "engine"])
def test_nothing_is_written_in_what_is_read_only_whatever_comes_first(
    world: World, way: Callable[[World, Both, Act], None], given: str
) -> None:
    """By our error, before it is sent or from the server, and nothing is there afterwards."""
    if given == "engine":
        world.database = type(world.database)(engine=world.database.engine)
        record_statements(world)
    acts = ACTS if way in (by_scope, by_route) else IN_A_TRANSACTION

    def story(db: Both) -> None:
        for act in acts:
            with pytest.raises(ReadOnlyViolation):
                way(world, db, act)
            rows = list(world.look.rows("SELECT id, text FROM door_note"))
            assert rows == [(OLD, "old")], act.__name__
            assert world.look.scalar("SELECT count(*) FROM door_book") == 0, act.__name__

    world.play(story)


# -- what is checked, and waited for ---------------------------------------------------------------


@SCOPES
def test_where_no_second_connection_can_be_had_it_is_our_error_whatever_comes_first(
    world: World,
) -> None:
    """One error, told as what it is: a scope around holds the only one; nothing is stored."""
    with_settings(world, engine_options={"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1})

    def story(db: Both) -> None:
        for act in ACTS:
            with db.scope():
                read(db)
                with pytest.raises(PoolTimeout, match="scope around it holds"), db.scope():
                    act(db)
            assert world.look.scalar("SELECT text FROM door_note") == "old", act.__name__

    world.play(story)


@SCOPES
def test_a_pool_that_is_empty_is_our_error_whatever_comes_first(world: World) -> None:
    """Within the patience of the pool; and who waited is told."""
    with_settings(world, engine_options={"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1})

    def story(db: Both) -> None:
        with plain_engine(world.database).connect():
            for act in ACTS:
                with pytest.raises(PoolTimeout, match="waited for a connection"), db.scope():
                    act(db)

    world.play(story)


@pytest.mark.worlds(drivers=lambda d: d in ("asyncpg", "asyncmy"), places=["scope"])
@pytest.mark.parametrize("way", [in_scope, in_autocommit, in_block, in_block_of_autocommit])
def test_another_event_loop_is_our_error_whatever_comes_first(
    world: World, way: Callable[[World, Both, Act], None]
) -> None:
    """Where the driver is bound to the first: told before anything is sent, and nothing stored."""
    db = Both(world.database)

    async def first() -> None:
        await world.database.scalar(select(1))  # type: ignore[misc]

    async def second(act: Act) -> None:
        await greenlet_spawn(way, world, db, act)

    async def both() -> None:
        async with world.database.scope():  # type: ignore[union-attr]
            await first()
        for act in ACTS:
            error = await asyncio.to_thread(outcome, second(act))
            assert isinstance(error, ConfigurationError), (act.__name__, error)
            assert "event loop" in str(error)
        await world.database.dispose()  # type: ignore[misc]

    asyncio.run(both())
    assert world.look.scalar("SELECT text FROM door_note") == "old"


def outcome(coroutine: Any) -> BaseException | None:
    """Run in a loop of its own, and return what it raises."""
    try:
        asyncio.run(coroutine)
    except BaseException as error:
        return error
    return None


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
@pytest.mark.parametrize("way", WAYS)
def test_what_writes_to_sqlite_says_so_when_it_begins(
    world: World, way: Callable[[World, Both, Act], None]
) -> None:
    """One BEGIN IMMEDIATE for each transaction that writes: never a read lock that must grow."""

    def story(db: Both) -> None:
        for act in ACTS:
            again(world)
            world.statements.clear()
            way(world, db, act)
            begun = [each for each in world.statements if each.startswith("BEGIN")]
            writing = [
                each for each in world.statements if each.startswith(("INSERT", "UPDATE", "DELETE"))
            ]
            assert writing
            assert begun.count("BEGIN IMMEDIATE") >= 1, (act.__name__, world.statements)
            for first, second in zip(world.statements, world.statements[1:], strict=False):
                assert not (first == "BEGIN" and second in writing), (act.__name__, first)

    world.play(story)


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
@pytest.mark.parametrize("way", [in_scope, in_autocommit, in_block, in_block_of_autocommit])
def test_what_writes_to_sqlite_waits_for_its_turn(
    world: World,
    way: Callable[[World, Both, Act], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And after the patience it is told who has been writing, whatever came first."""
    monkeypatch.setattr("dbscope.backends.sqlite.recipe.BUSY_TIMEOUT", 0.05)

    def story(db: Both) -> None:
        def write() -> None:
            with db.scope():
                flush(db)
                together()
                together()

        def wait_all() -> None:
            together()
            try:
                for act in ACTS:
                    with pytest.raises(DatabaseUnavailable, match="has been writing"):
                        way(world, db, act)
            finally:
                together()

        together = world.barrier(2)
        world.at_once(write, wait_all)
        assert world.look.scalar("SELECT count(*) FROM door_note") == 2

    world.play(story)


# -- a session that chooses among engines ----------------------------------------------------------


def routing(world: World, route: Callable[[Session], Any], **settings: Any) -> None:
    """Let the database have sessions that choose their engine."""

    class Routing(Session):
        def get_bind(self, *args: Any, **kwargs: Any) -> Any:
            return route(self) or super().get_bind(*args, **kwargs)

    class AsyncRouting(AsyncSession):
        sync_session_class = Routing

    kind = AsyncRouting if world.is_async else Routing
    with_settings(world, session_class=kind, **settings)


def second_engine(world: World) -> Any:
    """Return another engine for the same data, as an application has it."""
    other = type(world.database)(world.url)
    return plain_engine(other)


@SCOPES
@pytest.mark.parametrize("atomic", [True, False])
def test_a_session_may_route_a_transaction_to_one_engine_of_several(
    world: World, atomic: bool
) -> None:
    """All of it is there and stored; the other engine serves the next one."""
    other = second_engine(world)
    routing(world, lambda session: other if session.info.get("other") else None)

    def story(db: Both) -> None:
        for act in IN_A_TRANSACTION if atomic else ACTS:
            for chosen in (True, False):
                again(world)
                with db.scope(atomic=atomic):
                    plain(db).info["other"] = chosen
                    act(db)
                    assert (other.pool.checkedout() > 0) <= chosen
                assert changed(world), (act.__name__, chosen)
                world.look.execute("DELETE FROM door_note")
        assert db.real.stats()["pool_checked_out"] == 0
        assert other.pool.checkedout() == 0

    world.play(story)


def changed(world: World) -> bool:
    """Tell whether an act has left something, and take it away."""
    rows = list(world.look.rows("SELECT id, text FROM door_note"))
    books = world.look.rows("SELECT id FROM door_book")
    world.look.execute("DELETE FROM door_book")
    return rows != [(OLD, "old")] or bool(books)


@SCOPES
@pytest.mark.parametrize("act", ACTS)
def test_a_second_engine_in_one_transaction_is_refused(world: World, act: Act) -> None:
    """Its COMMIT would be another one: nothing of it is sent, and the first is rolled back."""
    other = second_engine(world)
    routing(world, lambda session: other if session.info.get("other") else None)

    def story(db: Both) -> None:
        with pytest.raises(TransactionManagementError, match="routed"), db.scope():
            db.session.add(Note(text="first"))
            db.session.flush()
            plain(db).info["other"] = True
            act(db)
        assert list(world.look.rows("SELECT text FROM door_note")) == [("old",)]
        assert other.pool.checkedout() == 0

    world.play(story)


@POSTGRES
@pytest.mark.parametrize("level", ISOLATION)
def test_what_a_block_asks_for_is_had_on_an_engine_that_it_is_routed_to(
    world: World, level: str
) -> None:
    """Isolation, time and tenant, as on the engine of the database."""
    other = second_engine(world)
    routing(world, lambda session: other, session_settings=lambda: {"app.tenant": "anna"})

    def story(db: Both) -> None:
        for act in IN_A_TRANSACTION:
            again(world)
            with db.scope(atomic=False), db.atomic(isolation=level, timeout=1000):
                act(db)
            rows = world.look.rows("SELECT isolation, seconds > 900, tenant FROM door_told")
            assert set(rows) == {(level, True, "anna")}, act.__name__

    world.play(story)


@SCOPES
def test_an_engine_of_another_kind_is_refused(world: World) -> None:
    """What is true of one kind of database is not of another."""
    other = create_engine("sqlite://" if not world.is_sqlite else "postgresql+psycopg://")
    routing(world, lambda session: other)

    def story(db: Both) -> None:
        for act in ACTS:
            with pytest.raises(ConfigurationError, match="another kind"), db.scope():
                act(db)

    world.play(story)
