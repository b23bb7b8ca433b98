"""Isolation levels: given by the outermost block, and by nobody inside. Case B16 of the rules."""

from typing import Any

import pytest
from sqlalchemy import select, text

from dbscope import AttributeMismatch, ConfigurationError
from tests.worlds import Both, Item, World, insert, is_postgresql

pytestmark = pytest.mark.worlds(places=["scope"])


def level(db: Both) -> str:
    """Return what the server says about the transaction."""
    return str(db.scalar(text("SHOW transaction_isolation"))).upper()


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
@pytest.mark.parametrize("name", ["SERIALIZABLE", "repeatable_read", "read committed"])
def test_the_server_knows_the_level_and_forgets_it_afterwards(world: World, name: str) -> None:
    """No statement is sent for it, and the next transaction of the connection has the usual one."""

    def story(db: Both) -> None:
        for _ in range(3):
            with db.scope(atomic=False):
                with db.atomic(isolation=name):
                    assert level(db) == name.upper().replace("_", " ")
                with db.atomic():
                    assert level(db) == "READ COMMITTED"
            with db.scope():
                assert level(db) == "READ COMMITTED"

    world.play(story)
    assert set(world.sent()) == {"BEGIN", "SHOW", "COMMIT"}


@pytest.mark.parametrize("name", ["SERIALIZABLE", "READ UNCOMMITTED"])
def test_every_database_gives_at_least_what_is_asked_for(world: World, name: str) -> None:
    """SQLite is serializable always; PostgreSQL's READ UNCOMMITTED is READ COMMITTED."""

    def story(db: Both) -> None:
        with db.scope(atomic=False), db.atomic(isolation=name):
            insert(db, "a")

    world.play(story)
    assert world.items() == ["a"]


INSIDE: list[dict[str, Any]] = [{"isolation": "SERIALIZABLE"}, {"readonly": True}]


@pytest.mark.parametrize("asked", INSIDE)
@pytest.mark.parametrize("how", [{}, {"savepoint": False}])
def test_a_transaction_cannot_change_its_kind(world: World, asked: Any, how: Any) -> None:
    """B16: an error that names both places; if it escapes, the outer block is rolled back."""

    def story(db: Both) -> None:
        mismatch = pytest.raises(AttributeMismatch, match=r"\.py:\d+.*\.py:\d+")
        with mismatch, db.scope(atomic=False), db.atomic():
            insert(db, "a")
            with db.atomic(**asked, **how):
                pytest.fail("it was let in")
        with db.scope():
            with pytest.raises(AttributeMismatch), db.atomic(**asked, **how):
                pytest.fail("it was let in")
            insert(db, "b")

    world.play(story)
    assert world.items() == ["b"]


def test_who_asks_for_the_same_may_join(world: World) -> None:
    """The level may be written in any case."""

    def story(db: Both) -> None:
        with db.scope(atomic=False), db.atomic(isolation="SERIALIZABLE"):
            with db.atomic(isolation="serializable", readonly=False):
                insert(db, "a")
            with db.atomic():
                insert(db, "b")

    world.play(story)
    assert world.items() == ["a", "b"]


@pytest.mark.parametrize(
    "wrong",
    [{"isolation": "SNAPSHOT"}, {"timeout": 0}, {"timeout": -1}, {"propagation": "sometimes"}],
)
def test_what_cannot_be_is_refused_when_it_is_written(world: World, wrong: Any) -> None:
    """Not at the first call of what it decorates."""
    with pytest.raises(ConfigurationError, match=str(next(iter(wrong.values())))):
        Both(world.database).real.atomic(**wrong)


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_a_snapshot_is_one(world: World) -> None:
    """REPEATABLE READ does not see what others commit meanwhile; READ COMMITTED does."""

    def story(db: Both) -> None:
        for name, seen in (("REPEATABLE READ", 0), ("READ COMMITTED", 2)):
            with db.scope(atomic=False), db.atomic(isolation=name):
                before = len(db.scalars(select(Item)).all())
                with db.scope():
                    insert(db, name)
                assert len(db.scalars(select(Item)).all()) == (before if seen == 0 else seen)

    world.play(story)
