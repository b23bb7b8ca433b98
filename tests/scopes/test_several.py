"""Several databases in one scope: flushed together, committed in order, and no lie if one fails."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy import insert as core_insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.util import await_only

from dbscope import (
    AsyncDatabase,
    BlocksOutOfOrder,
    Database,
    PartialCommit,
    Rollback,
    UnexpectedRollback,
)
from tests.support.look import Onlooker, until
from tests.worlds import SYNC, Base, Both, Child, Item, World, insert, plain_engine, waiting

pytestmark = pytest.mark.worlds(places=["scope"])


class Other:
    """A second database, on SQLite, of the same kind as that of the world."""

    def __init__(self, world: World, path: Path) -> None:
        url = f"sqlite:///{path}/other.db"
        made = Database(url)
        made.ensure_schema(Base.metadata)
        made.dispose()
        kind = AsyncDatabase if world.is_async else Database
        self.database: Any = kind(url, name="other")
        self.db = Both(self.database)
        self.look = Onlooker(url)

    def items(self) -> list[str]:
        """Return what is stored."""
        return [name for (name,) in self.look.rows("SELECT name FROM item ORDER BY id")]


@pytest.fixture
def other(world: World, tmp_path: Path) -> Iterator[Other]:
    made = Other(world, tmp_path)
    with made.look:
        yield made
        assert made.database.stats()["pool_checked_out"] == 0
        assert until(made.look.write_lock_is_free)


def play(world: World, other: Other, story: Callable[[Both, Both], None]) -> None:
    """Play a story of two databases."""

    def told(db: Both) -> None:
        try:
            story(db, other.db)
        finally:
            other.db.dispose()

    world.play(told)


def fail_at_commit(db: Both) -> None:
    """Write what is refused by COMMIT, and not before."""
    db.session.add(Child(item_id=999))
    db.session.flush()


def test_both_are_committed(world: World, other: Other) -> None:
    """Each is opened with its first use; one that is not used costs nothing."""

    def story(db: Both, second: Both) -> None:
        with db.scope():
            insert(db, "a")
            assert second.stats()["sessions"] == 0
            insert(second, "b")
        with db.scope():
            insert(db, "c")
        assert second.stats()["sessions"] == 1

    play(world, other, story)
    assert (world.items(), other.items()) == (["a", "c"], ["b"])


def test_an_error_undoes_both(world: World, other: Other) -> None:
    """The scope is one piece of work."""

    def story(db: Both, second: Both) -> None:
        with db.scope():
            insert(db, "a")
            insert(second, "b")
            raise Rollback

    play(world, other, story)
    assert (world.items(), other.items()) == ([], [])


def test_what_fails_in_a_flush_fails_before_anything_is_stored(world: World, other: Other) -> None:
    """Whichever of them it is: all are flushed before the first COMMIT."""

    def story(db: Both, second: Both) -> None:
        for failing, sound in ((db, second), (second, db)):
            with pytest.raises(IntegrityError), db.scope():
                insert(sound, "a")
                failing.session.add_all([Item(name="b"), Item(name="b")])

    play(world, other, story)
    assert (world.items(), other.items()) == ([], [])


@pytest.mark.parametrize("how", ["a swallowed error", "an open block"])
def test_what_is_known_to_fail_undoes_both(world: World, other: Other, how: str) -> None:
    """It is looked at before the first COMMIT: neither of them is stored."""

    def spoil(db: Both) -> None:
        if how == "an open block":
            waiting(enter_of(db.real.atomic()))()
        else:
            with suppress(IntegrityError):
                db.execute(core_insert(Item).values([{"name": "b"}, {"name": "b"}]))

    def story(db: Both, second: Both) -> None:
        for failing, sound in ((db, second), (second, db)):
            with pytest.raises((UnexpectedRollback, BlocksOutOfOrder)), db.scope():
                insert(sound, "a")
                insert(failing, "b")
                spoil(failing)

    play(world, other, story)
    assert (world.items(), other.items()) == ([], [])


def enter_of(block: Any) -> Callable[[], Any]:
    """Return what opens a block, and leaves it open."""
    return block.__aenter__ if hasattr(block, "__aenter__") else block.__enter__


def test_the_first_to_fail_at_commit_undoes_both(world: World, other: Other) -> None:
    """Nothing was stored yet, so its own error says it all."""

    def story(db: Both, second: Both) -> None:
        with pytest.raises(IntegrityError), db.scope():
            fail_at_commit(db)
            insert(second, "b")

    play(world, other, story)
    assert (world.items(), other.items()) == ([], [])


def test_a_later_failure_is_a_partial_commit_and_says_what_is_stored(
    world: World, other: Other
) -> None:
    """By name; its cause is the error of the COMMIT that failed."""
    ran: list[str] = []

    def story(db: Both, second: Both) -> None:
        with pytest.raises(PartialCommit, match="committed: 'default'") as raised, db.scope():
            insert(db, "a")
            fail_at_commit(second)
            db.on_commit(lambda: ran.append("one"))
            db.on_commit(lambda: ran.append("all"), all_databases=True)
            second.on_rollback(lambda: ran.append("rolled back"))
        error = raised.value
        assert (error.committed, error.rolled_back) == (("default",), ("other",))
        assert error.unknown == ()
        assert isinstance(error.__cause__, IntegrityError)

    play(world, other, story)
    assert (world.items(), other.items()) == (["a"], [])
    assert sorted(ran) == ["one", "rolled back"]


@pytest.mark.parametrize("first", ["world", "other"])
def test_they_are_committed_in_the_order_of_their_first_write_and_sqlite_last(
    world: World, other: Other, first: str
) -> None:
    """Who has only read comes before all of them, for it cannot fail after something is stored."""

    def story(db: Both, second: Both) -> None:
        one, two = (db, second) if first == "world" else (second, db)
        with db.scope():
            for each in (two, one):
                each.execute(Item.__table__.select())
            for each in (one, two):
                insert(each, "a")

    watch(world, other, ends := [])
    play(world, other, story)
    expected = ["default", "other"]
    if world.is_sqlite and first == "other":
        expected.reverse()
    assert ends == expected


def test_who_has_only_read_is_committed_before_who_has_written(world: World, other: Other) -> None:
    """Whoever comes first: it cannot fail after something is stored."""

    def story(db: Both, second: Both) -> None:
        with db.scope():
            insert(db, "a")
            second.execute(Item.__table__.select())

    watch(world, other, ends := [])
    play(world, other, story)
    assert ends == ["other", "default"]


def watch(world: World, other: Other, ends: list[str]) -> None:
    """Write down in which order the databases are told to commit."""
    for database in (world.database, other.database):
        name = database.name
        event.listen(plain_engine(database), "commit", lambda _, name=name: ends.append(name))


def test_a_hook_for_all_databases_waits_for_all_of_them(world: World, other: Other) -> None:
    """`ActiveRecord.after_all_transactions_commit`; a plain one waits only for its own."""
    ran: list[str] = []

    def story(db: Both, second: Both) -> None:
        with db.scope(atomic=False):
            with second.atomic():
                insert(second, "b")
                with db.atomic():
                    insert(db, "a")
                    db.on_commit(lambda: ran.append("own"))
                    db.on_commit(lambda: ran.append("all"), all_databases=True)
                assert ran == ["own"]
                db.on_commit(lambda: ran.append("outside"), all_databases=True)
                assert ran == ["own"]
            assert ran == ["own", "all", "outside"]
            db.on_commit(lambda: ran.append("at once"), all_databases=True)
            assert ran[-1] == "at once"

    play(world, other, story)


def test_a_hook_for_all_databases_is_forgotten_if_one_is_rolled_back(
    world: World, other: Other
) -> None:
    """Though its own was committed."""
    ran: list[str] = []

    def story(db: Both, second: Both) -> None:
        with db.scope(atomic=False), second.atomic():
            insert(second, "b")
            with db.atomic():
                insert(db, "a")
                db.on_commit(lambda: ran.append("all"), all_databases=True)
            second.set_rollback()

    play(world, other, story)
    assert ran == []
    assert (world.items(), other.items()) == (["a"], [])


@pytest.mark.parametrize("first", ["world", "other"])
@pytest.mark.parametrize("used_before", [True, False])
@pytest.mark.worlds(places=["scope", "request"])
def test_before_commit_of_one_may_write_to_the_other(
    world: World, other: Other, first: str, *, used_before: bool
) -> None:
    """None of them is finished before all hooks have run; one may be used by them only."""

    def body(one: Both, two: Both) -> None:
        def write() -> None:
            insert(two, "by a hook")
            two.before_commit(lambda: insert(one, "by a hook of a hook"))

        if used_before:
            insert(two, "b")
        insert(one, "a")
        one.before_commit(other.db.awaitable(write))

    def story(db: Both) -> None:
        body(*((db, other.db) if first == "world" else (other.db, db)))

    world.run(story)
    world.play(lambda db: other.db.dispose())
    one = ["a", "by a hook of a hook"]
    two = ["b", "by a hook"] if used_before else ["by a hook"]
    assert (world.items(), other.items()) == ((one, two) if first == "world" else (two, one))


@pytest.mark.worlds(drivers=lambda driver: driver not in SYNC, places=["scope"])
def test_both_kinds_of_database_can_be_in_one_scope(world: World, other: Other) -> None:
    """An async one and a plain one: the plain one is finished in a thread."""
    plain = Database(f"sqlite:///{other.look.url.database}", name="plain")

    def story(db: Both, second: Both) -> None:
        def store(name: str) -> None:
            plain.session.add(Item(name=name))
            plain.session.flush()

        with db.scope():
            insert(db, "a")
            await_only(asyncio.to_thread(store, "b"))

    play(world, other, story)
    plain.dispose()
    assert (world.items(), other.items()) == (["a"], ["b"])


def test_a_failed_flush_is_told_once(
    world: World, other: Other, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing was swallowed, and nothing of it is a hook."""

    def story(db: Both, second: Both) -> None:
        with pytest.raises(IntegrityError) as raised, db.scope():
            insert(second, "b")
            insert(db, "a")
            db.session.add(Item(name="a"))
        assert getattr(raised.value, "__notes__", []) == []
        for each in (db, second):
            assert each.stats()["unexpected_rollbacks"] == 0

    play(world, other, story)
    assert (world.items(), other.items()) == ([], [])
    assert [record.getMessage() for record in caplog.records if record.name == "dbscope"] == []
