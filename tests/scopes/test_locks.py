"""`lock`, `with_lock` and `release`. Cases E9 to E11 of the rule book."""

from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy import insert as core_insert
from sqlalchemy.exc import DBAPIError

from dbscope import ReadOnlyViolation, TransactionManagementError, TransactionRequired
from tests.worlds import Both, Item, World, insert, is_postgresql, is_sqlite

pytestmark = pytest.mark.worlds(places=["scope"])
ON_POSTGRESQL = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])


def with_item(world: World, story: Any) -> None:
    """Play a story when there is one item."""

    def prepared(db: Both) -> None:
        with db.scope():
            insert(db, "a")
        world.statements.clear()
        story(db)

    world.play(prepared)


def item_of(db: Both) -> Item:
    """Return the item."""
    item: Item = db.get_by_pk(Item, 1)
    return item


def test_a_locked_object_is_loaded_afresh(world: World) -> None:
    """What others have changed meanwhile is there."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            item = item_of(db)
            world.look.execute("UPDATE item SET name = 'changed'")
            with db.atomic():
                assert db.lock(item) is item
                assert item.name == "changed"
                item.name = "mine"

    with_item(world, story)
    assert world.items() == ["mine"]
    if not world.is_sqlite:
        assert any("FOR UPDATE" in statement for statement in world.statements)


def test_with_lock_opens_the_block_too(world: World) -> None:
    """The lock and the work belong to one transaction; an error undoes it."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            item = item_of(db)
            with db.with_lock(item) as locked:
                locked.name = "b"
            with pytest.raises(KeyError), db.with_lock(item):
                item.name = "c"
                raise KeyError

    with_item(world, story)
    assert world.items() == ["b"]


def test_a_changed_object_is_not_locked(world: World) -> None:
    """E11: loading would overwrite what was changed; the error names it."""

    def story(db: Both) -> None:
        with db.scope():
            item = item_of(db)
            item.name = "b"
            with pytest.raises(TransactionManagementError, match="changes in name"):
                db.lock(item)
            db.session.flush()
            assert db.lock(item).name == "b"

    with_item(world, story)
    assert world.items() == ["b"]


def test_an_object_of_another_session_is_not_locked(world: World) -> None:
    """It says what to do instead of what SQLAlchemy finds inside."""

    def story(db: Both) -> None:
        with db.scope():
            item = item_of(db)
        with db.scope(), pytest.raises(TransactionManagementError, match="merge"):
            db.lock(item)

    with_item(world, story)


@pytest.mark.parametrize(
    ("scope", "error"),
    [({"atomic": False}, TransactionRequired), ({"readonly": True}, ReadOnlyViolation)],
)
def test_there_is_no_lock_without_a_transaction_to_hold_it(
    world: World, scope: Any, error: type[Exception]
) -> None:
    """E9."""

    def story(db: Both) -> None:
        with db.scope(**scope):
            item = item_of(db)
            with pytest.raises((error, TransactionRequired)):
                db.lock(item)

    with_item(world, story)


@ON_POSTGRESQL
def test_who_does_not_want_to_wait_is_told_at_once(world: World) -> None:
    """E10: `nowait` is an error of the database, `skip_locked` is None, both are nonsense."""

    def story(db: Both) -> None:
        with db.scope():
            db.lock(item_of(db))
            with db.scope():
                item = item_of(db)
                assert db.lock(item, skip_locked=True) is None
                with pytest.raises(ValueError, match="choose one"):
                    db.lock(item, nowait=True, skip_locked=True)
                with pytest.raises(DBAPIError) as raised, db.atomic():
                    db.lock(item, nowait=True)
                assert raised.value.orig.sqlstate == "55P03"  # type: ignore[union-attr]

    with_item(world, story)


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
def test_on_sqlite_who_locks_becomes_the_writer(world: World) -> None:
    """Which is the only lock there is."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            item = item_of(db)
            with db.atomic():
                db.lock(item)
                assert not world.look.write_lock_is_free()

    with_item(world, story)


# -- release ---------------------------------------------------------------------------------------


def test_a_released_connection_is_back_in_the_pool(world: World) -> None:
    """The objects can be used, and the next statement begins a new transaction."""

    def story(db: Both) -> None:
        with db.scope():
            item = item_of(db)
            assert db.stats()["pool_checked_out"] == 1
            db.release()
            assert db.stats()["pool_checked_out"] == 0
            assert item.name == "a"
            world.look.execute("UPDATE item SET name = 'changed'")
            assert db.scalar(select(Item.name)) == "changed"
            db.release()
            db.release()
            insert(db, "b")

    with_item(world, story)
    assert world.items() == ["changed", "b"]
    assert world.sent().count("COMMIT") == 3


def test_hooks_wait_for_the_end_of_the_scope_all_the_same(world: World) -> None:
    """What was promised on commit is about the work, and not about the connection."""
    ran: list[str] = []

    def story(db: Both) -> None:
        with db.scope():
            item_of(db)
            db.on_commit(lambda: ran.append("committed"))
            db.release()
            assert ran == []

    with_item(world, story)
    assert ran == ["committed"]


def write(db: Both) -> None:
    """Write."""
    insert(db, "b")


def change(db: Both) -> None:
    """Change an object."""
    item_of(db).name = "b"


def read_and_lock(db: Both) -> None:
    """Lock a row."""
    db.lock(item_of(db))


@pytest.mark.parametrize("before", [write, change, read_and_lock])
def test_what_is_not_decided_yet_cannot_be_released(world: World, before: Any) -> None:
    """Writes, changes and locks: the end of the scope keeps or undoes them, and nothing sooner."""

    def story(db: Both) -> None:
        with pytest.raises(TransactionManagementError), db.scope():
            before(db)
            db.release()

    with_item(world, story)
    assert world.items() == ["a"]


@ON_POSTGRESQL
@pytest.mark.parametrize("wrapped", [select, lambda of: select(func.count(of))])
def test_neither_can_what_a_select_writes_in_its_with(world: World, wrapped: Any) -> None:
    """It is a write like others, wherever SQLAlchemy's statement has it."""
    written = core_insert(Item).values(name="b").returning(Item.id).cte()

    def story(db: Both) -> None:
        with pytest.raises(TransactionManagementError, match="has written"), db.scope():
            item_of(db)
            db.execute(wrapped(written.c.id))
            db.release()

    with_item(world, story)
    assert world.items() == ["a"]


def test_a_block_keeps_its_connection(world: World) -> None:
    """It is one transaction."""

    def story(db: Both) -> None:
        with db.scope(), db.atomic():
            item_of(db)
            with pytest.raises(TransactionManagementError, match="called inside the block"):
                db.release()

    with_item(world, story)
