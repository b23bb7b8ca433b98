"""Attempts that won and lost, and outcomes that are no simple COMMIT or ROLLBACK."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException, WebSocket
from sqlalchemy import delete, select, text, update
from sqlalchemy import insert as core_insert
from sqlalchemy.orm.exc import StaleDataError

from dbscope import (
    AsyncDatabase,
    Database,
    DatabaseUnavailable,
    PartialCommit,
    Rollback,
    TransactionOutcomeUnknown,
)
from dbscope.watch.drafts import MOST
from tests.conflicts import be_stale, counters
from tests.fixtures import make_tables
from tests.scopes.stage import ALONE, ASYNC, Stage
from tests.sockets import Socket
from tests.support.proxy import Proxy
from tests.worlds import (
    DRIVERS,
    Both,
    Child,
    Item,
    World,
    both_context,
    insert,
    is_postgresql,
    is_sqlite,
)

HERE = [name for name in DRIVERS if is_sqlite(name) or is_postgresql(name)]
here = pytest.mark.worlds(drivers=HERE.__contains__, places=["scope"])
servers = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])


@pytest.fixture
def watch(world: World) -> Iterator[Callable[[], Any]]:
    """Return the watch of the world, which is on; a test may have made another database."""
    yield lambda: world.database.watch
    world.database.watch.stop()


def fail_until(db: Both, number: int) -> Callable[[], None]:
    """Return work that meets another transaction, before its attempt of this number."""
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        insert(db, "a")
        if len(calls) < number:
            be_stale(db)

    return work


RETURNING: dict[str, tuple[Callable[[Both], Any], dict[str, int]]] = {
    "objects": (
        lambda db: db.session.add_all([Item(name="c"), Item(name="d"), Item(name="e")]),
        {"INSERT into item": 3},
    ),
    "insert": (
        lambda db: db.scalars(core_insert(Item).values(name="c").returning(Item.id)).all(),
        {"INSERT into item": 1},
    ),
    "update": (
        lambda db: db.scalars(update(Item).values(name=Item.name + "!").returning(Item.id)).all(),
        {"UPDATE item": 2},
    ),
    "update of nothing": (
        lambda db: db.scalars(
            update(Item).where(Item.id < 0).values(name="x").returning(Item.id)
        ).all(),
        {},
    ),
    "delete": (
        lambda db: db.scalars(delete(Item).returning(Item.id)).all(),
        {"DELETE from item": 2},
    ),
}


@here
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("how", RETURNING)
def test_rows_that_come_back_are_counted(world: World, watch: Any, how: str, kept: bool) -> None:
    """A driver may know only when all were read how many there were."""
    work, expected = RETURNING[how]

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
            insert(db, "b")
        with suppress(Rollback), db.scope():
            work(db)
            db.session.flush()
            db.scalar(select(Item.id))
            if not kept:
                raise Rollback

    watch().start()
    world.play(story)
    record = watch().recent()[0]
    assert dict(record.stored if kept else record.not_stored) == expected
    assert not (record.not_stored if kept else record.stored)


@here
def test_a_retry_that_has_won(world: World, watch: Any) -> None:
    """The attempts are one story: each has its record, and the last one knows those before."""
    counters(world, 1)
    watch().start()
    world.play(lambda db: db.run(fail_until(db, 3), attempts=3))
    won, *lost = watch().recent()
    assert str(won).startswith("committed; 1 INSERT into item stored; ")
    assert "; attempt 3, after StaleDataError, StaleDataError" in str(won)
    assert [record.attempt for record in lost] == [2, 1]
    assert all("attempt" in str(record) and "done again" in str(record) for record in lost)


@here
def test_a_retry_that_has_lost(world: World, watch: Any) -> None:
    """The last attempt is the one whose error is raised."""
    counters(world, 1)
    watch().start()

    def story(db: Both) -> None:
        with pytest.raises(StaleDataError):
            db.run(fail_until(db, 9), attempts=2)

    world.play(story)
    last, first = watch().recent()
    assert str(last).startswith("rolled back, StaleDataError raised at ")
    assert "; attempt 2, after StaleDataError" in str(last)
    assert first.again
    assert not last.again


@here
def test_what_is_written_behind_many_statements_is_told(world: World, watch: Any) -> None:
    """Of most statements only so many are kept; of what was written, all is counted."""
    watch().start()

    def story(db: Both) -> None:
        with db.scope():
            for number in range(MOST + 2):
                db.execute(text(f"SELECT {number}"))
            for number in range(3):
                db.execute(text(f"INSERT INTO item (name) VALUES ('{number}')"))

    world.play(story)
    (record,) = watch().recent()
    told = str(record).partition("; idle in its transaction")[0]  # on a machine that stalls
    assert told == "committed; 3 INSERT into item stored"
    assert (len(record.statements), record.more) == (MOST, 5)


@here
def test_a_record_that_another_thread_has_made_meanwhile_is_read(world: World, watch: Any) -> None:
    """Whoever has found it unmade comes to make it when that is done."""
    watch().start()
    world.play(lambda db: world.inside(db, lambda db: insert(db, "a")))
    (record,) = watch().recent()
    assert record.outcome == "committed"
    assert record.__getattr__("outcome") == "committed"


@here
def test_what_the_end_has_stored_was_not_stored_by_hand(world: World, watch: Any) -> None:
    """Though a rollback by hand came before."""
    watch().start()

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
            db.session.rollback()
            insert(db, "b")

    world.play(story)
    (record,) = watch().recent()
    assert str(record) == "committed; 1 INSERT into item not stored; 1 INSERT into item stored"


@here
@pytest.mark.parametrize("how", ["doom", "set_rollback"])
def test_what_was_added_and_given_up_is_told(world: World, watch: Any, how: str) -> None:
    """Nothing was ever sent of it."""
    watch().start()

    def story(db: Both) -> None:
        with db.scope():
            db.session.add(Item(name="a"))
            db.doom() if how == "doom" else db.set_rollback(True)

    world.play(story)
    (record,) = watch().recent()
    assert str(record).startswith(f"rolled back, {how}(")
    assert str(record).endswith("; 1 Item never sent")


@here
@pytest.mark.parametrize("atomic", [True, False])
def test_who_has_asked_to_roll_a_block_back_is_told(world: World, watch: Any, atomic: bool) -> None:
    """A savepoint's line says so; a block that is a transaction of its own is the whole of it."""
    watch().start()

    def story(db: Both) -> None:
        with db.scope(atomic=atomic):
            if atomic:
                insert(db, "a")
            with db.atomic():
                insert(db, "b")
                db.set_rollback(True)

    world.play(story)
    (record,) = watch().recent()
    assert str(record).startswith(
        "committed" if atomic else "rolled back, set_rollback(True) called"
    )
    assert str(record).count("set_rollback(True) called at ") == 1


@here
def test_a_hook_alone_was_not_rolled_back(world: World, watch: Any) -> None:
    """There was no transaction at all."""
    watch().start()

    def story(db: Both) -> None:
        with db.scope():
            db.on_commit(lambda: None)

    world.play(story)
    (record,) = watch().recent()
    assert str(record) == "nothing sent"


@here
def test_what_was_stored_by_hand(world: World, watch: Any) -> None:
    """A failure afterwards loses only the rest."""
    watch().start()

    def body(db: Both) -> None:
        insert(db, "a")
        db.session.commit()
        insert(db, "b")
        raise KeyError

    with suppress(KeyError):
        world.run(body)
    (record,) = watch().recent()
    assert str(record).startswith("rolled back, KeyError raised at ")
    assert "; 1 INSERT into item not stored; 1 INSERT into item stored by hand at " in str(record)


@here
def test_what_was_stored_in_part(world: World, watch: Any, tmp_path: Path) -> None:
    """Of two databases in a scope the second one has failed at COMMIT."""
    url = f"sqlite:///{tmp_path}/second.db"
    make_tables(url)
    second: Any = (AsyncDatabase if world.is_async else Database)(url, name="second")
    watch().start()
    second.watch.start()

    def story(db: Both) -> None:
        other = Both(second)
        with pytest.raises(PartialCommit), db.scope():
            insert(db, "a")
            other.session.add(Child(item_id=999))
            other.session.flush()
        other.dispose()

    world.play(story)
    (record,) = watch().recent()
    assert record.outcome == "partly committed"
    assert record.reason == "committed: default, rolled back: second"
    (lost,) = second.watch.recent()
    second.watch.stop()
    assert lost.outcome == "partly committed"
    assert lost.reason.startswith(f"{record.reason}; IntegrityError (")
    assert ", last written at " in lost.reason
    assert dict(lost.not_stored) == {"INSERT into child": 1}


@servers
def test_an_outcome_that_nobody_knows(world: World, watch: Any, proxy: Proxy) -> None:
    """It is told as what it is, and not as a rollback."""
    world.database = type(world.database)(proxy.through(world.url))
    watch().start()

    def story(db: Both) -> None:
        with db.scope():
            db.session.connection()
        proxy.cut_after_commit()
        with pytest.raises(TransactionOutcomeUnknown), db.scope():
            insert(db, "a")
        proxy.pass_through()

    world.play(story)
    record = watch().recent()[0]
    told = "outcome unknown, the answer to COMMIT was lost; 1 INSERT into item may not be stored"
    assert str(record).startswith(told)


@servers
@pytest.mark.parametrize(("cut", "found"), [("after", "committed"), ("before", "rolled back")])
def test_an_outcome_that_was_verified(
    world: World, watch: Any, proxy: Proxy, cut: str, found: str
) -> None:
    """The server was asked, and its word is in the record."""
    world.database = type(world.database)(proxy.through(world.url), verify_commit=True)
    watch().start()

    def story(db: Both) -> None:
        with db.scope():
            db.session.connection()
        getattr(proxy, f"cut_{cut}_commit")()
        with suppress(DatabaseUnavailable), db.scope():
            insert(db, "a")
        proxy.pass_through()

    world.play(story)
    record = watch().recent()[0]
    assert record.reason == f"the answer to COMMIT was lost, and the server says: {found}"
    assert dict(record.stored if cut == "after" else record.not_stored) == {"INSERT into item": 1}
    assert (record.outcome == "committed") is (cut == "after")


@pytest.mark.anyio
@pytest.mark.worlds(drivers=HERE.__contains__, places=[ALONE])
async def test_an_error_that_was_answered_though_its_work_is_stored(stage: Stage) -> None:
    """The answer and the database disagree: stored by hand, and then 409."""

    def body() -> None:
        stage.insert("a")
        stage.db.session.commit()
        raise HTTPException(409)

    stage.real.watch.start()
    stage.route(body)
    await stage.ask()
    (record,) = stage.real.watch.recent()
    stage.real.watch.stop()
    assert record.disagrees
    assert record.status == 409
    assert "1 INSERT into item stored by hand at " in str(record)


@pytest.mark.anyio
@pytest.mark.worlds(drivers=HERE.__contains__, places=[ALONE])
async def test_the_attempts_of_a_request_are_one_story(stage: Stage, pauses: list[float]) -> None:
    """A request that is done again has a record of each attempt, and one answer."""
    counters(stage.world, 1)
    stage.install["retry"] = 2
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        stage.insert("a")
        if len(calls) == 1:
            be_stale(stage.db)

    stage.real.watch.start()
    stage.route(body)
    await stage.ask()
    won, lost = stage.real.watch.recent()
    stage.real.watch.stop()
    assert (lost.again, lost.status, won.status) == (True, None, 200)
    assert "; attempt 2, after StaleDataError" in str(won)


@pytest.mark.anyio
@pytest.mark.worlds(drivers=lambda each: each in HERE and each in ASYNC, places=[ALONE])
async def test_a_websocket_is_recorded_by_its_route(stage: Stage) -> None:
    """Though it has no method, as requests have."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await stage.task(lambda: stage.insert("a"))()

    stage.app.add_api_websocket_route("/items/{number}", endpoint)
    stage.wire()
    await stage.warm_up()
    stage.real.watch.start()
    await Socket(stage.app, "/items/1").task
    (record,) = stage.real.watch.recent()
    stage.real.watch.stop()
    assert record.route == "WEBSOCKET /items/{number}"


@here
def test_a_scope_that_autocommits_tells_what_is_stored(world: World, watch: Any) -> None:
    """Each statement for itself: an error afterwards takes nothing back."""
    watch().start()

    def story(db: Both) -> None:
        with suppress(KeyError), db.scope(atomic=False):
            db.execute(text("INSERT INTO item (name) VALUES ('a')"))
            raise KeyError

    world.play(story)
    (record,) = watch().recent()
    assert dict(record.stored) == {"INSERT into item": 1}
    assert record.outcome == "committed"


@here
def test_a_savepoint_that_is_sent_as_text_is_one(world: World, watch: Any) -> None:
    """What was written since is not stored, though nobody but the text has said so."""
    watch().start()

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
            db.execute(text("SAVEPOINT one"))
            insert(db, "b")
            db.execute(text("savepoint Two"))
            insert(db, "c")
            db.execute(text("ROLLBACK TO SAVEPOINT ONE"))
            insert(db, "d")
            db.execute(text("RELEASE SAVEPOINT one"))
            with db.savepoint():
                insert(db, "e")

    world.play(story)
    (record,) = watch().recent()
    assert world.items() == ["a", "d", "e"]
    assert (record.stored, record.not_stored) == (
        (("INSERT into item", 3),),
        (("INSERT into item", 2),),
    )
    outcomes = [savepoint.outcome for savepoint in record.savepoints]
    assert outcomes == ["rolled back", "rolled back", "released", "released"]
    assert record.savepoints[0].reason.startswith("ROLLBACK TO SAVEPOINT one at tests/")


@pytest.mark.anyio
@pytest.mark.worlds(drivers=HERE.__contains__, places=[ALONE])
async def test_an_attempt_that_is_done_again_says_why(stage: Stage, pauses: None) -> None:
    """Its work is rolled back before anybody has decided about it by an answer."""
    counters(stage.world, 1)
    stage.install["retry"] = 1
    attempts: list[int] = []

    def body() -> None:
        attempts.append(1)
        stage.insert("a")
        if len(attempts) == 1:
            be_stale(stage.db)

    stage.route(body)
    stage.wire()
    stage.real.watch.start()
    assert (await stage.ask()).items == ["a"]
    won, lost = stage.real.watch.recent()
    stage.real.watch.stop()
    assert str(lost).startswith("rolled back, StaleDataError raised at ")
    assert "done again" in str(lost)
    assert (won.attempt, won.outcome) == (2, "committed")


@here
def test_a_scope_in_a_sandbox_is_of_a_test(world: World, watch: Any) -> None:
    """What it does to the server is undone, so it is none of the application's."""
    watch().start()

    def story(db: Both) -> None:
        with sandbox_of(db), db.scope():
            insert(db, "a")
        with db.scope():
            insert(db, "b")

    world.play(story)
    after, inside = watch().recent()
    assert (inside.kind, after.kind) == ("test", "scope")


def sandbox_of(db: Both) -> Any:
    """Return a sandbox, for the kind of code that runs."""
    opened = db.real.sandbox()
    return both_context(opened) if db.is_async else opened
