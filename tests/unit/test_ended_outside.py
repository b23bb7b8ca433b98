"""What has been answered is what is stored, though others than we have ended the transaction."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert as core_insert

from dbscope import (
    DatabaseUnavailable,
    TransactionBroken,
    TransactionEndedOutside,
)
from tests.worlds import Both, Item, World, insert, waiting

HOW = ["at the end", "by hand", "in a hook", "in autocommit"]
HERE = pytest.mark.worlds(places=["scope", "request"])


def plain(db: Both) -> Any:
    """Return the plain connection of the session."""
    connection = db.session.connection()
    return getattr(connection, "sync_connection", connection)


def dbapi(db: Both) -> Any:
    """Return the DBAPI connection, which for async is SQLAlchemy's adapter."""
    return plain(db).connection.dbapi_connection


def driver(db: Both) -> Any:
    """Return the driver's own connection."""
    return plain(db).connection.driver_connection


def by_driver(word: str) -> Callable[[Both], None]:
    """Return what ends the transaction by a call to the driver; asyncpg has none but SQL."""

    def end(db: Both) -> None:
        found = driver(db)
        if hasattr(found, word):
            waiting(getattr(found, word))()
        else:
            waiting(found.execute)(word.upper())

    return end


ENDED = {
    "rollback": lambda db: dbapi(db).rollback(),
    "commit": lambda db: dbapi(db).commit(),
    "driver's rollback": by_driver("rollback"),
    "driver's commit": by_driver("commit"),
}
CLOSED = {
    "close": lambda db: dbapi(db).close(),
    "driver's close": lambda db: waiting(driver(db).close)(),
    "rollback and close": lambda db: (dbapi(db).rollback(), dbapi(db).close()),
}


class Story:
    """A transaction that somebody ends, and what was told of it."""

    def __init__(self, world: World, end: Callable[[Both], Any]) -> None:
        self.world, self.end = world, end
        self.hooks: list[str] = []
        self.told: BaseException | None = None

    def write(self, db: Both) -> None:
        db.on_commit(lambda: self.hooks.append("committed"))
        db.on_rollback(lambda: self.hooks.append("rolled back"))
        insert(db, "a")
        self.end(db)

    def play(self, how: str, then: Callable[[Both], Any] = lambda db: None) -> None:
        """Let it happen, in the place of the world, at one of the ends that a transaction has."""

        def body(db: Both) -> None:
            if how == "in a hook":
                db.on_commit(db.awaitable(lambda: self.in_hook(db, then)))
            elif how == "in autocommit":
                with db.scope(atomic=False), self.telling(), db.atomic():
                    self.part(db, then)
            elif how == "by hand":
                self.part(db, then)
                with self.telling():
                    db.session.commit()
            else:
                self.part(db, then)

        with self.telling():
            self.world.run(body)

    def in_hook(self, db: Both, then: Callable[[Both], Any]) -> None:
        with self.telling(), db.scope():
            self.part(db, then)

    def part(self, db: Both, then: Callable[[Both], Any]) -> None:
        self.write(db)
        then(db)

    def telling(self) -> Any:
        return Telling(self)


class Telling:
    """Keep what leaves it, and let nothing through."""

    def __init__(self, story: Story) -> None:
        self.story = story

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if error is not None and self.story.told is None:
            self.story.told = error
        return isinstance(error, Exception)


@HERE
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("way", ENDED)
def test_a_transaction_that_was_ended_by_the_driver_is_no_success(
    world: World, way: str, how: str
) -> None:
    """Nobody told us which way it went, so that is what is said, and no hook is run."""
    story = Story(world, ENDED[way])
    story.play(how)
    assert isinstance(story.told, TransactionEndedOutside), story.told
    assert story.hooks == []
    assert world.items() == (["a"] if "commit" in way else [])


@HERE
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("way", ENDED)
def test_nothing_is_stored_of_what_comes_after_that(world: World, way: str, how: str) -> None:
    """It would be the second half of a transaction."""
    story = Story(world, ENDED[way])

    def go_on(db: Both) -> None:
        for _ in range(2):
            with pytest.raises((TransactionEndedOutside, TransactionBroken)):
                insert(db, "b")
            db.session.expunge_all()
            with pytest.raises(TransactionBroken):
                db.execute(core_insert(Item).values(name="c"))

    story.play(how, go_on)
    assert isinstance(story.told, TransactionEndedOutside), story.told
    assert story.hooks == []
    assert world.items() == (["a"] if "commit" in way else [])


@HERE
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("way", CLOSED)
def test_a_connection_that_was_closed_before_commit_has_stored_nothing(
    world: World, way: str, how: str
) -> None:
    """COMMIT was not sent, so there is nothing open about it."""
    story = Story(world, CLOSED[way])
    story.play(how)
    if not (story.told is None and world.place == "request" and how == "at the end"):  # a 503
        assert isinstance(story.told, DatabaseUnavailable), story.told
        assert story.told.nothing_was_stored
    assert story.hooks == ["rolled back"]
    assert world.items() == []
    assert world.database.stats()["outcomes_unknown"] == 0
