"""`verify_commit`: the lost answer of a COMMIT becomes a known outcome. Cases G5, R7."""

from typing import Any

import pytest

from dbscope import ConfigurationError, DatabaseUnavailable, TransactionOutcomeUnknown
from dbscope.watch.events import OutcomeNotFound
from tests.support.proxy import Proxy
from tests.worlds import Both, World, insert, is_postgresql, is_sqlite

HOW = ["scope", "block", "by hand"]
pytestmark = [
    pytest.mark.usefixtures("late_outcome"),
    pytest.mark.worlds(drivers=is_postgresql, places=["scope"]),
    pytest.mark.parametrize("how", HOW),
]


def end(db: Both, how: str, hooks: list[str]) -> None:
    """Store an item and end the transaction, in one of the ways."""

    def work() -> None:
        insert(db, "a")
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


def cut(world: World, proxy: Proxy, mode: str, how: str, **options: Any) -> list[str]:
    """Cut the wire at COMMIT, and return the hooks that ran."""
    world.database = type(world.database)(proxy.through(world.url), verify_commit=True, **options)
    hooks: list[str] = []

    def story(db: Both) -> None:
        with db.scope():
            db.session.connection()  # connected
        getattr(proxy, mode)()
        try:
            end(db, how, hooks)
        finally:
            proxy.pass_through()

    world.play(story)
    return hooks


def test_a_commit_that_happened_is_a_success(world: World, proxy: Proxy, how: str) -> None:
    """The hooks run, and the session goes on."""
    assert cut(world, proxy, "cut_after_commit", how) == ["committed"]
    assert world.items() == (["a", "after"] if how == "by hand" else ["a"])


def test_a_commit_that_did_not_happen_is_a_failure_that_may_be_repeated(
    world: World, proxy: Proxy, how: str
) -> None:
    """It says so: nothing was stored."""
    with pytest.raises(DatabaseUnavailable, match="lost at COMMIT") as raised:
        cut(world, proxy, "cut_before_commit", how)
    assert raised.value.nothing_was_stored
    assert world.items() == []


def test_where_nobody_can_be_asked_it_stays_unknown(world: World, proxy: Proxy, how: str) -> None:
    """No guess is made, no hook is run, and whoever listens hears why."""
    hooks: list[str] = []
    told: list[Any] = []
    world.database = type(world.database)(proxy.through(world.url), verify_commit=True)
    world.database.events.listen(told.append)

    def story(db: Both) -> None:
        with db.scope():
            db.session.connection()
        proxy.cut_after_commit(then="refuse")
        with pytest.raises(TransactionOutcomeUnknown):
            end(db, how, hooks)

    try:
        world.play(story)
    finally:
        proxy.pass_through()
    assert hooks == []
    assert world.items() == ["a"]
    (not_found,) = [event for event in told if isinstance(event, OutcomeNotFound)]
    assert isinstance(not_found.error, Exception)


def test_a_transaction_that_only_read_is_not_asked_about(
    world: World, proxy: Proxy, how: str
) -> None:
    """What it costs, one round trip, is paid by those who write."""
    world.database = type(world.database)(proxy.through(world.url), verify_commit=True)

    def story(db: Both) -> None:
        for _ in range(2):
            proxy.reset_counts()
            end(db, how, [])
            world.look.execute("DELETE FROM item")
        assert sum("pg_current_xact_id" in sql for sql in proxy.sql) == 1 + (how == "by hand")

    world.play(story)


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
def test_only_postgresql_can_be_asked(world: World, how: str) -> None:
    """It is refused when the database is made."""
    with pytest.raises(ConfigurationError, match="use postgresql"):
        type(world.database)(world.url, verify_commit=True)
