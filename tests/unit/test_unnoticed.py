"""What happens behind the library's back must be noticed, or it would claim something false."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from sqlalchemy import String, event, func, select, text
from sqlalchemy import insert as core_insert
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from dbscope import (
    AsyncDatabase,
    BlocksOutOfOrder,
    DatabaseUnavailable,
    ManualCommitForbidden,
    TransactionBroken,
    TransactionOutcomeUnknown,
    UnexpectedRollback,
)
from dbscope.unit.current import current
from dbscope.unit.ownership import Turn
from tests.support.proxy import Proxy
from tests.unit.blocks import Halt, Trouble
from tests.worlds import SYNC, Both, Item, World, insert, is_postgresql, is_sqlite, plain_engine

SCOPE = pytest.mark.worlds(places=["scope"])
SQLITE = pytest.mark.worlds(drivers=is_sqlite)


def log_hooks(db: Both) -> list[str]:
    """Return a list that hooks of both kinds write to."""
    log: list[str] = []
    db.on_commit(lambda: log.append("commit"))
    db.on_rollback(lambda: log.append("rollback"))
    return log


# -- statements that end a transaction -------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "COMMIT",
        " rollback;",
        "END",
        "BEGIN",
        "start  transaction",
        "ROLLBACK WORK",
        "/* done */ COMMIT",
        "-- done\nCOMMIT",
        "PREPARE TRANSACTION 'a'",
        "SET autocommit = 1",
        "SET SESSION autocommit = 1",
        "SET @@autocommit = 1",
    ],
)
@SCOPE
def test_text_that_ends_the_transaction_is_refused(world: World, words: str) -> None:
    """Everything after it would be stored whatever comes, or the scope claim what is not stored."""
    logs: list[list[str]] = []

    def body(db: Both) -> None:
        logs.append(log_hooks(db))
        insert(db, "a")
        with pytest.raises(ManualCommitForbidden):
            db.execute(text(words))
        insert(db, "b")

    world.run(body)
    assert world.items() == ["a", "b"]
    assert logs == [["commit"]]


@SCOPE
def test_text_may_have_savepoints(world: World) -> None:
    """They end nothing but themselves."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.execute(text("SAVEPOINT mine"))
        db.execute(core_insert(Item).values(name="b"))
        for words in ("ROLLBACK TO SAVEPOINT mine", "RELEASE SAVEPOINT mine"):
            db.execute(text(words))

    world.run(body)
    assert world.items() == ["a"]


@SQLITE
@pytest.mark.parametrize("how", ["OR ROLLBACK", "RAISE"])
def test_sqlite_ends_a_transaction_inside_a_statement(world: World, how: str) -> None:
    """The savepoint that is open is gone as well, by whomever it was begun.

    https://sqlite.org/lang_conflict.html.
    """
    world.look.execute("INSERT INTO item (id, name) VALUES (1, 'there')")
    world.look.execute("CREATE TABLE refusing (x)")
    world.look.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON refusing BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
    )
    bad = {
        "OR ROLLBACK": "INSERT OR ROLLBACK INTO item (id, name) VALUES (1, 'again')",
        "RAISE": "INSERT INTO refusing VALUES (1)",
    }[how]

    def body(db: Both) -> None:
        insert(db, "first")
        with suppress(DBAPIError), by_hand_if_allowed(db):
            db.execute(text(bad))
        with pytest.raises(TransactionBroken):
            db.execute(core_insert(Item).values(name="second"))

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == ["there"]


def by_hand_if_allowed(db: Both) -> Any:
    """Return a savepoint by hand, or, inside an explicit block, one of ours."""
    explicit = len(current.get().units[db.real._source].blocks) > 1  # type: ignore[union-attr]
    return db.savepoint() if explicit else db.session.begin_nested()


@SQLITE
def test_a_statement_that_is_done_in_part_breaks_its_block(world: World) -> None:
    """The driver refuses the third of three rows by a plain OverflowError; two are written."""
    rows = [{"name": "a", "id": 1}, {"name": "b", "id": 2}, {"name": "c", "id": 2**70}]

    def body(db: Both) -> None:
        with suppress(OverflowError):
            db.execute(core_insert(Item), rows)

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == []


class OwnConnection(asyncpg.Connection):
    """A class of an application's own, which remembers something."""

    async def execute(self, query: str, *args: Any, **kwargs: Any) -> str:
        """Execute, and remember."""
        self.executed = [*getattr(self, "executed", ()), query]
        return await super().execute(query, *args, **kwargs)


async def connect_itself(url: str) -> Any:
    """Connect by asyncpg, as an application's `async_creator` does."""
    return await asyncpg.connect(url.replace("+asyncpg", ""), connection_class=OwnConnection)


# How the application has its connections made.
MADE: dict[str, Callable[[str], AsyncDatabase]] = {
    "by us": AsyncDatabase,
    "of a class of its own": lambda url: AsyncDatabase(
        url, engine_options={"connect_args": {"connection_class": OwnConnection}}
    ),
    "by an engine of its own": lambda url: AsyncDatabase(engine=create_async_engine(url)),
    "by itself": lambda url: AsyncDatabase(
        engine=create_async_engine(url, async_creator=lambda: connect_itself(url))
    ),
}


@pytest.mark.parametrize("made", MADE)
@pytest.mark.worlds(drivers=lambda driver: driver == "asyncpg")
def test_a_class_of_connections_of_its_own_is_kept(world: World, made: str) -> None:
    """Ours is on top of it, with nothing more in it."""
    world.database = MADE[made](world.url)

    def body(db: Both) -> None:
        insert(db, "a")
        raw = db.session.connection().sync_connection.connection.driver_connection
        assert isinstance(raw, asyncpg.Connection)
        if made in {"of a class of its own", "by itself"}:
            assert isinstance(raw, OwnConnection)
            assert any("BEGIN" in each for each in raw.executed)
        else:
            assert not hasattr(raw, "__dict__")

    world.run(body)
    assert world.items() == ["a"]


@pytest.mark.parametrize("made", MADE)
@pytest.mark.worlds(drivers=lambda driver: driver == "asyncpg")
def test_a_commit_that_postgresql_answers_by_a_rollback_is_an_error(
    world: World, made: str
) -> None:
    """A failed COPY goes past SQLAlchemy; asyncpg reads no more than that COMMIT was answered."""
    world.database = MADE[made](world.url)
    logs: list[list[str]] = []

    def body(db: Both) -> None:
        logs.append(log_hooks(db))
        insert(db, "a")
        raw = db.session.connection().sync_connection.connection.driver_connection
        rows = {"records": [(1, "b"), (1, "c")], "columns": ["id", "name"]}
        with suppress(Exception):
            await_only(raw.copy_records_to_table("item", **rows))

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == []
    assert logs == [["rollback"]]


# -- the session by hand ---------------------------------------------------------------------------


@pytest.mark.worlds(places=["block"])
@pytest.mark.parametrize("name", ["close", "reset", "invalidate"])
def test_a_session_is_not_ended_inside_a_block(world: World, name: str) -> None:
    """Half of the block would be gone without a word."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(ManualCommitForbidden):
            getattr(db.session, name)()

    world.run(body)
    assert world.items() == ["a"]


@SCOPE
def test_a_block_that_is_gone_leaves_nothing_behind(world: World) -> None:
    """Nor its own scope: the connection goes back, and the scope is not the current one."""

    def story(db: Both) -> None:
        with pytest.raises(BlocksOutOfOrder), db.atomic():
            insert(db, "a")
            end_behind_our_back(db)
        assert current.get() is None
        assert db.stats()["pool_checked_out"] == 0

    world.play(story)
    assert world.items() == []


def end_behind_our_back(db: Both) -> None:
    """End the transaction by an object that is not ours."""
    plain = getattr(db.real.session, "sync_session", db.real.session)
    plain.get_transaction().rollback()


# -- listeners of the application ------------------------------------------------------------------


def listen(db: Both, name: str, listener: Any) -> None:
    """Let the application listen to its session."""
    event.listen(getattr(db.real.session, "sync_session", db.real.session), name, listener)


@SCOPE
def test_a_listener_that_fails_before_commit_has_prevented_it(world: World) -> None:
    """COMMIT was not sent, so its outcome is known."""
    logs: list[list[str]] = []

    def fail(session: Any) -> None:
        raise Trouble

    def body(db: Both) -> None:
        logs.append(log_hooks(db))
        listen(db, "before_commit", fail)
        insert(db, "a")

    with pytest.raises(Trouble):
        world.run(body)
    assert (world.items(), logs) == ([], [["rollback"]])


@SCOPE
@pytest.mark.parametrize("error", [Trouble, InvalidRequestError])
def test_a_listener_that_fails_after_commit_cannot_take_it_back(
    world: World, error: type[Exception]
) -> None:
    """What is stored is stored, so its hooks run; the error goes on."""
    logs: list[list[str]] = []

    def fail(session: Any) -> None:
        raise error

    def body(db: Both) -> None:
        logs.append(log_hooks(db))
        listen(db, "after_commit", fail)
        insert(db, "a")

    with pytest.raises(error):
        world.run(body)
    assert (world.items(), logs) == (["a"], [["commit"]])


@SCOPE
def test_who_ends_the_program_in_a_commit_ends_it(world: World) -> None:
    """KeyboardInterrupt and its kin stay what they are; no hook runs, for nobody knows."""
    logs: list[list[str]] = []

    def body(db: Both) -> None:
        logs.append(log_hooks(db))
        insert(db, "a")
        dialect = plain_engine(world.database).dialect
        commit = dialect.do_commit

        def do_commit(connection: Any) -> None:
            commit(connection)
            raise Halt

        dialect.do_commit = do_commit

    with pytest.raises(Halt):
        world.run(body)
    assert (world.items(), logs) == (["a"], [[]])


@SCOPE
def test_a_listener_to_new_connections_is_called(world: World) -> None:
    """`do_connect`, by which applications give each connection a fresh password."""
    seen: list[Any] = []

    @event.listens_for(plain_engine(world.database), "do_connect")
    def on_connect(dialect: Any, record: Any, args: Any, kwargs: Any) -> None:
        seen.append(dialect)

    world.run(lambda db: insert(db, "a"))
    assert len(seen) >= 1
    assert world.items() == ["a"]


# -- results, tasks and threads --------------------------------------------------------------------


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
def test_a_result_that_is_half_read_ends_with_its_scope(world: World) -> None:
    """Else the next scope would see the old snapshot, and could not write."""
    world.database = type(world.database)(world.url, engine_options={"pool_size": 1})
    kept: list[Any] = []

    def story(db: Both) -> None:
        with db.scope():
            db.session.add_all([Item(name=f"{n}") for n in range(100)])
        with db.scope():
            kept.append(half_read(db))
        world.look.execute("INSERT INTO item (name) VALUES ('new')")
        with db.scope():
            assert db.scalar(select(func.count(Item.id))) == 101
            insert(db, "newer")

    world.play(story)
    assert len(world.items()) == 102


def half_read(db: Both) -> Any:
    """Read the first row of many."""
    query = select(Item.id).execution_options(yield_per=10)
    if not db.is_async:
        result = db.execute(query)
        result.fetchone()
        return result
    result = db.session.stream(query)
    await_only(result.fetchone())
    return result


@pytest.mark.worlds(drivers=lambda driver: driver not in SYNC, places=["scope"])
def test_a_function_that_two_tasks_call_at_once_has_a_block_for_each_call(world: World) -> None:
    """Whoever leaves first would leave the other's; so both are told, and nothing is stored."""

    async def main() -> None:
        db: Any = world.database
        inside, go_on = asyncio.Event(), asyncio.Event()

        @db.atomic
        async def work(name: str) -> None:
            await db.execute(core_insert(Item).values(name=name))
            if name == "first":
                inside.set()
                await go_on.wait()
            else:
                go_on.set()
                await asyncio.sleep(0)
                raise Trouble

        async def second() -> None:
            await inside.wait()
            await work("second")

        with pytest.raises(UnexpectedRollback):
            async with db.scope():
                results = await asyncio.gather(work("first"), second(), return_exceptions=True)
        assert [type(result) for result in results] == [BlocksOutOfOrder, Trouble]
        await db.dispose()

    asyncio.run(main())
    assert world.items() == []


LONG = """WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000000000)
SELECT max(x) FROM c"""


@pytest.mark.worlds(drivers=lambda driver: driver in SYNC, places=["scope"])
def test_a_thread_that_is_late_is_made_to_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is not closed under it: that would end the process, or never wake it."""
    monkeypatch.setattr("dbscope.backends.base.CANCEL_TIMEOUT", 20)
    failed: list[BaseException] = []

    def work(db: Both) -> None:
        try:
            db.execute(text(world.sleep(20, LONG)))  # the tests after it wait longer for its locks
        except (DBAPIError, DatabaseUnavailable) as error:
            failed.append(error)

    def story(db: Both) -> None:
        db.real._source.finish_timeout = 0.05
        with pytest.raises(UnexpectedRollback), db.scope():
            insert(db, "a")
            thread = threading.Thread(target=copy_context().run, args=(work, db))
            thread.start()
            while not current.get().units[db.real._source].turn.is_taken():  # type: ignore[union-attr]
                thread.join(0.01)
        thread.join()
        with db.scope():
            insert(db, "b")

    world.play(story)
    assert world.items() == ["b"]
    assert len(failed) == 1


@pytest.mark.worlds(drivers=lambda driver: driver in SYNC, places=["scope"])
def test_a_block_may_be_left_in_another_context(world: World) -> None:
    """A dependency of FastAPI's, or a test's fixture: each step of a generator may have its own."""

    def story(db: Both) -> None:
        block, context = db.atomic(), copy_context()
        context.run(block.__enter__)
        context.run(insert, db, "a")
        assert not block.__exit__(Trouble, Trouble(), None)
        assert db.stats()["pool_checked_out"] == 0

    world.play(story)
    assert world.items() == []


@pytest.mark.worlds(drivers=lambda driver: driver in SYNC, places=["scope"])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_generator_that_is_collected_takes_nobody_out_of_a_scope(
    world: World, elsewhere: bool
) -> None:
    """Whoever runs at that moment may be another request, or this code in a later scope."""

    def generator(db: Both) -> Iterator[None]:
        with db.scope():
            yield

    def story(db: Both) -> None:
        kept = generator(db)
        (copy_context() if elsewhere else SameContext()).run(next, kept)
        with db.scope():
            mine = current.get()
            kept.close()
            assert current.get() is mine
            insert(db, "a")
        assert current.get() is None

    world.play(story)
    assert world.items() == ["a"]


class SameContext:
    """Runs a function as `Context.run` does, in the context of the caller."""

    def run(self, function: Any, *args: Any) -> Any:
        """Call it."""
        return function(*args)


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_a_commit_is_not_answered_for_by_the_one_before(world: World, proxy: Proxy) -> None:
    """`verify_commit` asks about this transaction only; that this SELECT is no read is not seen."""
    world.database = type(world.database)(proxy.through(world.url), verify_commit=True)
    hidden = select(func.pg_current_xact_id().cast(String))  # a function may do anything

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            with db.atomic():
                insert(db, "a")
            proxy.cut_before_commit()
            with pytest.raises(TransactionOutcomeUnknown), db.atomic():
                db.scalar(hidden)
            proxy.pass_through()

    world.play(story)
    assert world.items() == ["a"]


def test_a_change_that_comes_before_the_gate_is_not_waited_for() -> None:
    """Another thread may finish between the look and the wait."""

    class NeverOpened:
        def wait(self, timeout: float | None = None) -> bool:
            raise AssertionError("nobody will open it")

    assert turn_of(NeverOpened).wait(lambda: False) is True


def test_a_turn_that_was_given_back_meanwhile_can_be_seized() -> None:
    """Whoever was given up may come back in the very moment."""
    turn = turn_of(threading.Event)
    assert turn.take()
    turn.give_back()
    turn.seize()
    turn.give_back()
    assert turn.take()


def test_a_turn_can_be_seized_while_it_is_given_back() -> None:
    """Between its holder and its lock another thread may come."""
    turn = turn_of(threading.Event)
    assert turn.take()
    turn._lock = Interrupted(turn)  # type: ignore[assignment]
    turn.give_back()
    assert turn.take()


class Interrupted:
    """The lock of a turn that is seized, and given back, when it is about to be released."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.lock = turn._lock
        self.acquire = self.lock.acquire

    def release(self) -> None:
        self.turn._lock = self.lock
        self.turn.seize()
        self.turn.give_back()
        self.lock.release()


def turn_of(gate: Callable[[], Any]) -> Turn:
    """Return a turn of threads, who wait at such gates."""
    return Turn(SimpleNamespace(me=threading.get_ident, gate=gate))  # type: ignore[arg-type]
