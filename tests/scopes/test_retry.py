"""A function whose transaction met another one is done again, as a whole. Cases G10, H2, D21."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from dbscope import AsyncDatabase, Database, TransactionManagementError, TransactionOutcomeUnknown
from dbscope.scopes import backoff
from tests.conflicts import HeldLock, be_stale, counters, overtake, value, with_options
from tests.unit.hooks import Log
from tests.worlds import MYSQL, Both, World, insert, is_postgresql, is_sqlite, plain_engine

pytestmark = [pytest.mark.worlds(places=["scope"]), pytest.mark.usefixtures("pauses")]

postgres = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
servers = pytest.mark.worlds(drivers=lambda d: not is_sqlite(d), places=["scope"])
sqlite = pytest.mark.worlds(drivers=is_sqlite, places=["scope"])


@pytest.fixture
def log() -> Log:
    return Log()


class Work:
    """Fails as often as that by a conflict, and then stores an item."""

    def __init__(self, db: Both, conflicts: int, fail: Callable[[Both], Any] = be_stale) -> None:
        self.db = db
        self.conflicts = conflicts
        self.fail = fail
        self.sessions: list[Any] = []

    @property
    def attempts(self) -> int:
        """How often it was called."""
        return len(self.sessions)

    def __call__(self) -> str:
        session = self.db.real.session
        assert session not in self.sessions
        assert not session.identity_map
        self.sessions.append(session)  # kept, so that no other can be mistaken for it
        insert(self.db, f"of attempt {self.attempts}")
        if self.attempts <= self.conflicts:
            self.fail(self.db)
        return f"attempt {self.attempts}"


def decorated(db: Both, work: Callable[[], Any], attempts: int = 3) -> Any:
    """Call the function decorated with `atomic(retry=)`."""
    return db.decorated(db.real.atomic(retry=attempts - 1), work)()


def ran(db: Both, work: Callable[[], Any], attempts: int = 3) -> Any:
    """Call it by `run`."""
    return db.run(work, attempts=attempts)


both_ways = pytest.mark.parametrize("way", [decorated, ran])


# -- what is done again ----------------------------------------------------------------------------


@both_ways
def test_what_met_another_transaction_is_done_again(world: World, way: Any) -> None:
    """D21: with a session that knows nothing of the failed attempts, whose work is gone."""
    counters(world, 1)

    def story(db: Both) -> Work:
        work = Work(db, conflicts=2)
        assert way(db, work) == "attempt 3"
        return work

    assert world.play(story).attempts == 3
    assert world.items() == ["of attempt 3"]


@both_ways
def test_after_the_last_attempt_its_error_is_raised(world: World, way: Any) -> None:
    """D23: it has notes about the attempts before; nothing is stored."""
    counters(world, 1)

    def story(db: Both) -> None:
        work = Work(db, conflicts=9)
        with pytest.raises(StaleDataError) as raised:
            way(db, work)
        assert work.attempts == 3
        assert [note.split(" ")[:2] for note in raised.value.__notes__] == [
            ["Attempt", "1"],
            ["Attempt", "2"],
        ]

    world.play(story)
    assert world.items() == []


@both_ways
def test_other_failures_are_not_repeated(world: World, way: Any) -> None:
    """D23: a duplicate fails once, with the error as it is."""

    def story(db: Both) -> None:
        work = Work(db, 9, lambda db: [insert(db, "a") for _ in range(2)])
        with pytest.raises(IntegrityError) as raised:
            way(db, work)
        assert work.attempts == 1
        assert not hasattr(raised.value, "__notes__")

    world.play(story)


@both_ways
def test_one_attempt_is_no_retry(world: World, way: Any) -> None:
    """`attempts=1` and `retry=0` are the same."""
    counters(world, 1)

    def story(db: Both) -> None:
        work = Work(db, conflicts=1)
        with pytest.raises(StaleDataError):
            way(db, work, attempts=1)
        assert work.attempts == 1

    world.play(story)


def test_a_swallowed_conflict_is_done_again(world: World) -> None:
    """It comes out as UnexpectedRollback, whose cause it is."""
    counters(world, 1)

    def swallow(db: Both) -> None:
        with pytest.raises(StaleDataError):
            be_stale(db)

    world.play(lambda db: db.run(Work(db, 1, swallow)))
    assert world.items() == ["of attempt 2"]


@servers
def test_who_loses_a_deadlock_does_its_work_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """40P01, and 1213, which takes the savepoints of MariaDB's transaction with it."""
    counters(world, 2)
    calls: list[int] = []

    def story(db: Both) -> None:
        both_hold, one_is_done = world.barrier(2), world.barrier(2)

        def cross(first: int, second: int, mine: list[int]) -> None:
            mine.append(first)
            if len(mine) > 1:  # not before, or it could take the other's row once more
                one_is_done()
            with db.atomic():
                db.execute(ADD, {"id": first})
                if len(mine) == 1:
                    both_hold()
            with db.atomic():
                db.execute(ADD, {"id": second})

        def until_done(first: int, second: int) -> None:
            mine: list[int] = []
            db.run(partial(cross, first, second, mine))
            if len(mine) == 1:
                one_is_done()
            calls.extend(mine)

        world.at_once(partial(until_done, 1, 2), partial(until_done, 2, 1))

    world.play(story)
    assert len(calls) == 3
    assert list(world.look.rows("SELECT value FROM counter ORDER BY id")) == [(2,), (2,)]
    assert world.database.stats()["connections_discarded"] == 0
    assert "The rollback failed" not in caplog.text


@pytest.mark.worlds(drivers=lambda d: d in MYSQL, places=["scope"])
@pytest.mark.parametrize(("codes", "attempts"), [((), 1), (["1205"], 2)])
def test_a_lock_wait_that_took_too_long_is_a_conflict_if_somebody_says_so(
    world: World, codes: Any, attempts: int
) -> None:
    """1205 of MariaDB has waited for long already, so it is not done again by itself."""
    counters(world, 1)
    world.database = type(world.database)(world.url, retry_codes=codes)
    calls: list[int] = []

    def add(db: Both) -> None:
        calls.append(1)
        if len(calls) > 1:
            world.look.execute("ROLLBACK")
        db.execute(text("SET innodb_lock_wait_timeout = 1"))
        db.execute(ADD, {"id": 1})

    for hold in ("BEGIN", "SELECT value FROM counter WHERE id = 1 FOR UPDATE"):
        world.look.execute(hold)
    try:
        with nullcontext() if codes else pytest.raises(DBAPIError, match="1205"):
            world.play(lambda db: db.run(partial(add, db)))
    finally:
        world.look.execute("ROLLBACK")
    assert len(calls) == attempts


ADD = text("UPDATE counter SET value = value + 1 WHERE id = :id")


@postgres
def test_increments_that_meet_add_up(world: World) -> None:
    """40001: the statement that lost reads again what the other one wrote."""
    with_options(world, isolation_level="REPEATABLE READ")
    counters(world, 1)
    calls: list[int] = []

    def body(db: Both) -> None:
        calls.append(1)
        if len(calls) < 3:
            overtake(world, db)
        else:
            db.execute(text("UPDATE counter SET value = value + 1"))

    world.play(lambda db: db.run(partial(body, db)))
    assert (len(calls), value(world)) == (3, 201)


@postgres
def test_a_conflict_that_only_commit_finds_is_done_again(world: World, log: Log) -> None:
    """G10: a lost COMMIT of SERIALIZABLE; the hooks are those of the attempt that won."""
    with_options(world, isolation_level="SERIALIZABLE")
    counters(world, 2)
    other = type(world.database)(world.url, engine_options={"isolation_level": "SERIALIZABLE"})
    calls: list[int] = []

    def change(client: Any, number: int) -> None:
        client.execute(text("SELECT sum(value) FROM counter"))
        client.execute(text("UPDATE counter SET value = 7 WHERE id = :id"), {"id": number})

    def body(db: Both) -> None:
        calls.append(1)
        change(db, 1)
        db.on_commit(log.note(f"stored by {len(calls)}"))
        db.on_rollback(log.note(f"undone of {len(calls)}"))
        if len(calls) == 1:
            with plain_engine(other).begin() as connection:  # another client, in no scope of ours
                change(connection, 2)

    def story(db: Both) -> None:
        try:
            db.run(partial(body, db))
        finally:
            Both(other).dispose()

    world.play(story)
    assert (len(calls), log) == (2, ["undone of 1", "stored by 2"])


@sqlite
def test_a_busy_database_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLITE_BUSY: the other process ends its transaction during the pause."""
    with_options(world, connect_args={"timeout": 0.01})
    with HeldLock(world) as lock:
        monkeypatch.setattr(backoff.random, "uniform", lambda *limits: lock.release() or 0)
        world.play(lambda db: db.run(partial(insert, db, "a")))
    assert world.items() == ["a"]


# -- what is not -----------------------------------------------------------------------------------


@pytest.mark.worlds
@both_ways
def test_inside_a_transaction_nothing_is_repeated(world: World, way: Any) -> None:
    """Its owner could not be done again by that: the error goes on to who can do that."""
    counters(world, 1)
    works: list[Work] = []

    def body(db: Both) -> None:
        outer = db.real.session

        def fail(db: Both) -> None:
            assert db.real.session is outer
            be_stale(db)

        works.append(Work(db, 9, fail))
        way(db, works[0])

    with pytest.raises(StaleDataError):
        world.run(body)
    assert works[0].attempts == 1
    assert world.items() == []


@both_ways
def test_in_autocommit_each_attempt_has_a_scope_of_its_own(world: World, way: Any) -> None:
    """The session around it is left alone."""
    counters(world, 1)

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            outer = db.real.session
            work = Work(db, conflicts=1)
            way(db, work)
            assert work.attempts == 2
            assert outer not in work.sessions
            assert db.real.session is outer

    world.play(story)
    assert world.items() == ["of attempt 2"]


@both_ways
def test_a_transaction_begun_by_hand_is_not_gone_around(world: World, way: Any) -> None:
    """In autocommit: a block cannot join it, so it is refused, as without retry."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            db.begin()
            with pytest.raises(TransactionManagementError, match="by hand"):
                way(db, Work(db, conflicts=0))

    world.play(story)


@both_ways
def test_a_failed_hook_does_not_repeat_what_is_stored(world: World, way: Any) -> None:
    """A conflict of a hook, after COMMIT, is the hook's own."""
    counters(world, 1)

    def story(db: Both) -> None:
        hook = db.awaitable(partial(be_stale, db))
        work = Work(db, 9, lambda db: db.on_commit(hook))
        with pytest.raises(StaleDataError):
            way(db, work)
        assert work.attempts == 1

    world.play(story)
    assert world.items() == ["of attempt 1"]


def test_an_unknown_outcome_is_not_repeated(world: World) -> None:
    """It may be stored: nothing is repeated, whatever the error of the driver was."""

    def fail(db: Both) -> None:
        raise TransactionOutcomeUnknown from StaleDataError("")

    def story(db: Both) -> None:
        work = Work(db, 9, fail)
        with pytest.raises(TransactionOutcomeUnknown):
            db.run(work)
        assert work.attempts == 1

    world.play(story)


@pytest.mark.worlds(drivers=lambda d: d in {"inline", "aiosqlite", "asyncpg"}, places=["scope"])
def test_a_cancellation_ends_the_attempts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes during a pause, and there is no next attempt."""
    counters(world, 1)
    pausing = asyncio.Event()
    monkeypatch.setattr(backoff.random, "uniform", lambda *limits: pausing.set() or 60)

    async def main() -> None:
        db = Both(world.database)
        work = Work(db, conflicts=1)
        task = asyncio.create_task(db.real.run(db.awaitable(work)))
        await pausing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.attempts == 1
        await world.database.dispose()

    asyncio.run(main())


# -- hooks, log, misuse ----------------------------------------------------------------------------


@both_ways
def test_hooks_are_those_of_the_attempt_that_won(world: World, log: Log, way: Any) -> None:
    """C3: on_commit of one attempt, on_rollback of the others."""
    counters(world, 1)

    def body(db: Both, calls: list[int]) -> None:
        calls.append(1)
        insert(db, "a")
        db.on_commit(log.note(f"stored by {len(calls)}"))
        db.on_rollback(log.note(f"undone of {len(calls)}"))
        if len(calls) < 3:
            be_stale(db)

    world.play(lambda db: way(db, partial(body, db, [])))
    assert log == ["undone of 1", "undone of 2", "stored by 3"]


def test_a_retry_is_logged_with_place_and_code(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """At INFO: it is not an error, but people want to know how often it happens."""
    counters(world, 1)
    caplog.set_level(logging.INFO, "dbscope")

    def story(db: Both) -> None:
        work = Work(db, conflicts=2)

        def function() -> str:
            return work()

        db.run(function)

    world.play(story)
    told = [record.getMessage() for record in caplog.records if record.name == "dbscope"]
    assert len(told) == 2
    assert "Attempt 1 of the block opened at" in told[0]
    assert "/tests/" in told[0]
    assert "StaleDataError" in told[0]


def test_pauses_double_up_to_a_limit(world: World, pauses: list[float]) -> None:
    """Full jitter: each is drawn from zero to a limit."""
    counters(world, 1)
    world.play(lambda db: db.run(Work(db, conflicts=8), attempts=9))
    assert pauses == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0]
    assert backoff.pause(10**6) == 0


def test_a_function_left_by_rollback_is_done(world: World) -> None:
    """It was rolled back on purpose, so it returns None and is not repeated."""

    def fail(db: Both) -> None:
        raise db.real.Rollback

    def story(db: Both) -> None:
        work = Work(db, 9, fail)
        assert db.run(work) is None
        assert work.attempts == 1

    world.play(story)
    assert world.items() == []


def test_arguments_reach_the_function(world: World) -> None:
    """Of what is decorated; it stays what it was."""

    def story(db: Both) -> None:
        def named(first: int, second: int) -> tuple[int, int]:
            return first, second

        assert db.decorated(db.real.atomic(retry=1), named)(1, 2) == (1, 2)

    world.play(story)


def test_a_block_cannot_be_retried(world: World) -> None:
    """Python has no way to run the body of a `with` again."""

    def story(db: Both) -> None:
        with pytest.raises(TypeError, match="a block cannot be done again"), db.atomic(retry=3):
            pass

    world.play(story)


@pytest.mark.parametrize("database", [AsyncDatabase("sqlite://"), Database("sqlite://")])
def test_numbers_that_mean_nothing_are_refused(database: Any) -> None:
    """No attempt at all, or fewer."""
    with pytest.raises(ValueError, match="retry must be 0 or more, not -1"):
        database.atomic(retry=-1)
    with pytest.raises(ValueError, match="attempts must be 1 or more, not 0"):
        ran_now = database.run(dict, attempts=0)
        asyncio.run(ran_now)


def test_a_plain_database_refuses_an_async_function() -> None:
    """Nobody would await it."""

    async def function() -> None: ...

    with pytest.raises(TypeError, match="is async"):
        Database("sqlite://").run(function)
