"""The row of `once` tells what became of a COMMIT whose answer was lost, on every database."""

from collections.abc import Callable
from typing import Any

import pytest

from dbscope import DatabaseUnavailable, TransactionOutcomeUnknown
from dbscope.once import store
from tests.once.conftest import keys
from tests.scopes.stage import ALONE, SERVERS, Stage, only
from tests.support.proxy import Proxy
from tests.worlds import Both, World, insert, is_sqlite, plain_engine

pytestmark = pytest.mark.usefixtures("once", "late_outcome")
only_scope = pytest.mark.worlds(places=["scope"])
on_servers = pytest.mark.worlds(drivers=lambda each: not is_sqlite(each), places=["scope"])
HOW = ["scope", "block", "by hand"]


def end(db: Both, how: str, hooks: list[str]) -> None:
    """Do something once, and end the transaction in one of the ways."""

    def work() -> None:
        with db.once("k") as once:
            once.result = insert(db, "a").name
        db.on_commit(lambda: hooks.append("committed"))
        db.on_rollback(lambda: hooks.append("rolled back"))

    if how == "block":
        with db.scope(atomic=False), db.atomic():
            work()
        return
    with db.scope():
        work()
        if how == "by hand":
            db.session.commit()
            insert(db, "after")


def lose(world: World, *, stored: bool) -> None:
    """Lose the answer of the next COMMIT: it is sent before, or not at all."""
    dialect = plain_engine(world.database).dialect
    send: Callable[[Any], None] = dialect.do_commit

    def commit(connection: Any) -> None:
        if stored:
            send(connection)
        else:
            connection.info["dbscope.unit"].commit.send()
        dialect.do_commit = send
        raise ConnectionError("the answer was lost")

    dialect.do_commit = commit


@only_scope
@pytest.mark.parametrize("how", HOW)
def test_what_was_stored_is_a_success(world: World, how: str) -> None:
    """The hooks run, the session goes on, and a repetition is answered by what came of it."""
    hooks: list[str] = []

    def story(db: Both) -> None:
        with db.scope():
            db.session.connection()
        lose(world, stored=True)
        end(db, how, hooks)
        with db.scope(), db.once("k") as once:
            assert (once.done, once.result) == (True, "a")

    world.play(story)
    assert hooks == ["committed"]
    assert world.items() == (["a", "after"] if how == "by hand" else ["a"])
    assert world.database.stats()["outcomes_verified"] == 1


@only_scope
@pytest.mark.parametrize("how", HOW)
def test_what_was_not_stored_is_a_failure_that_may_be_repeated(world: World, how: str) -> None:
    """It says so: nothing was stored."""
    hooks: list[str] = []

    def story(db: Both) -> None:
        with db.scope():
            db.session.connection()
        lose(world, stored=False)
        with pytest.raises(DatabaseUnavailable, match="lost at COMMIT") as raised:
            end(db, how, hooks)
        assert raised.value.nothing_was_stored
        assert world.items() == keys(world.look) == []
        end(db, how, hooks)

    world.play(story)
    assert hooks == ["rolled back", "committed"]
    assert world.items()[:1] == ["a"]


@only_scope
def test_a_repetition_has_nothing_to_commit(world: World) -> None:
    """So no answer of a COMMIT can be lost, and on SQLite nobody waits for its turn to write."""

    def story(db: Both) -> None:
        end(db, "scope", [])
        before = db.stats()["commits"]
        with db.scope(), db.once("k") as once:
            assert (once.done, db.stats()["pool_checked_out"]) == (True, 0)
        assert db.stats()["commits"] == before

    world.play(story)


@only_scope
def test_a_row_of_somebody_else_is_no_proof(world: World) -> None:
    """Whoever did it meanwhile has done it; this attempt has not."""

    def story(db: Both) -> None:
        with db.scope():
            db.session.connection()
        lose(world, stored=False)
        dialect = plain_engine(world.database).dialect
        lost = dialect.do_commit

        def commit(connection: Any) -> None:
            try:
                lost(connection)
            finally:
                connection.rollback()
                world.look.execute(
                    "INSERT INTO dbscope_once VALUES (?, 'k', NULL, 'other', NULL,"
                    " '2026-01-01', '2099-01-01')",
                    store.digest("k"),
                )

        dialect.do_commit = commit
        with pytest.raises(DatabaseUnavailable):
            end(db, "scope", [])

    world.play(story)
    assert world.items() == []


@only_scope
def test_a_row_that_was_rolled_back_with_its_savepoint_proves_nothing(world: World) -> None:
    """The rest of the transaction may be stored without it."""

    class Trouble(Exception):
        pass

    def story(db: Both) -> None:
        with db.scope():
            db.session.connection()
        lose(world, stored=True)
        with pytest.raises(TransactionOutcomeUnknown), db.scope():
            insert(db, "a")
            with pytest.raises(Trouble), db.once("k"):
                insert(db, "b")
                raise Trouble

    world.play(story)
    assert world.items() == ["a"]


@on_servers
@pytest.mark.parametrize("mode", ["cut_before_commit", "cut_after_commit"])
@pytest.mark.parametrize("how", HOW)
def test_a_wire_that_is_cut_at_commit_leaves_no_doubt(
    world: World, proxy: Proxy, mode: str, how: str
) -> None:
    """PostgreSQL and MariaDB, without any setting."""
    world.database = type(world.database)(proxy.through(world.url))
    hooks: list[str] = []
    told: list[bool] = []

    def story(db: Both) -> None:
        with db.scope():
            db.session.connection()
        getattr(proxy, mode)()
        try:
            end(db, how, hooks)
        except DatabaseUnavailable as error:
            told.append(error.nothing_was_stored)
        finally:
            proxy.pass_through()

    world.play(story)
    is_stored = mode == "cut_after_commit"
    assert told == ([] if is_stored else [True])
    assert hooks == (["committed"] if is_stored else ["rolled back"])
    assert world.items()[:1] == (["a"] if is_stored else [])


@on_servers
def test_where_nobody_can_be_asked_it_stays_unknown_until_the_repetition(
    world: World, proxy: Proxy
) -> None:
    """Which is answered by what is there."""
    world.database = type(world.database)(proxy.through(world.url))
    hooks: list[str] = []

    def story(db: Both) -> None:
        with db.scope():
            db.session.connection()
        proxy.cut_after_commit(then="refuse")
        try:
            with pytest.raises(TransactionOutcomeUnknown):
                end(db, "scope", hooks)
        finally:
            proxy.pass_through()
        end_again: list[bool] = []
        with db.scope(), db.once("k") as once:
            end_again.append(once.done)
        assert end_again == [True]

    world.play(story)
    assert hooks == []
    assert world.items() == ["a"]


@pytest.mark.anyio
@only(*SERVERS, places=(ALONE,))
@pytest.mark.parametrize("mode", ["cut_before_commit", "cut_after_commit"])
async def test_a_request_with_a_key_is_never_answered_by_a_guess(
    stage: Stage, proxy: Proxy, mode: str
) -> None:
    """Stored is the answer itself; not stored is a 503 that may be repeated."""
    stage.remake(proxy.through(stage.world.url))
    stage.route(lambda: stage.insert("a"))
    stage.install = {"idempotency": True}
    await stage.warm_up()
    getattr(proxy, mode)()
    key = [(b"idempotency-key", b"k")]
    first = await stage.ask(headers=key)
    again = await stage.ask(headers=key)
    assert first.status == (200 if mode == "cut_after_commit" else 503)
    assert first.answer.headers.get("retry-after") == (None if first.status == 200 else "1")
    assert (again.status, stage.world.items()) == (200, ["a"])
