"""What has been answered is what is stored, though others than we have ended the transaction."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert as core_insert
from sqlalchemy import text
from sqlalchemy.util import await_only

from dbscope import (
    DatabaseUnavailable,
    TransactionBroken,
    TransactionEndedOutside,
    TransactionOutcomeUnknown,
)
from dbscope.backends.sockets import has_unread_bytes
from tests.support.look import until
from tests.support.proxy import Proxy
from tests.worlds import MYSQL, Both, Item, World, insert, is_sqlite, waiting

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


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("way", CLOSED)
def test_what_was_committed_before_is_not_nothing(world: World, way: str) -> None:
    """So the error does not say that all of it can be done again."""

    def body(db: Both) -> None:
        db.session.add(Item(name="before"))
        db.session.commit()
        db.session.add(Item(name="a"))
        db.session.flush()
        CLOSED[way](db)

    with pytest.raises(DatabaseUnavailable) as raised:
        world.run(body)
    assert not raised.value.nothing_was_stored
    assert world.items() == ["before"]


# -- the server ------------------------------------------------------------------------------------

SERVERS = pytest.mark.worlds(drivers=lambda driver: not is_sqlite(driver), places=["scope"])
ME = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
KILL = {"postgresql": "SELECT pg_terminate_backend(?)", "mysql": "KILL ?"}
PATIENCE = {
    "idle_in_transaction_session_timeout": "'50ms'",
    "transaction_timeout": "'300ms'",  # PostgreSQL 17 and later
    "idle_transaction_timeout": "1",  # MariaDB's, in seconds
}
KNOWN = {
    "postgresql": "SELECT count(*) FROM pg_settings WHERE name = ?",
    "mysql": "SELECT count(*) FROM information_schema.system_variables WHERE variable_name = ?",
}


def kill(world: World, db: Both) -> None:
    """Let the server end the connection of the session, and wait until it has."""
    me = db.scalar(text(ME[world.look.url.get_backend_name()]))
    world.look.execute(KILL[world.look.url.get_backend_name()], me)
    wait_for_the_end(world, db, me)


def tire(world: World, db: Both, setting: str) -> None:
    """Do nothing for longer than the server stands."""
    me = db.scalar(text(ME[world.look.url.get_backend_name()]))
    db.execute(text(f"SET SESSION {setting} = {PATIENCE[setting]}"))
    wait_for_the_end(world, db, me)


def wait_for_the_end(world: World, db: Both, number: int) -> None:
    """Wait without a turn of the event loop, which would read what the server says."""
    assert until(lambda: number not in [each.pid for each in world.look.backends()])
    connection = dbapi(db)
    assert until(lambda: has_unread_bytes(connection, {}))


def give_way(turns: int) -> None:
    """Let the event loop turn."""
    for _ in range(turns):
        await_only(asyncio.sleep(0.001))


def check_told(story: Story) -> None:
    """Nothing is stored, which is known, and said."""
    assert isinstance(story.told, DatabaseUnavailable), story.told
    assert story.told.nothing_was_stored
    assert story.hooks == ["rolled back"]
    assert story.world.items() == []
    assert story.world.database.stats()["outcomes_unknown"] == 0


@SERVERS
@pytest.mark.parametrize("turns", [0, 20])
@pytest.mark.parametrize("how", HOW)
def test_a_connection_that_the_server_has_ended_has_stored_nothing(
    world: World, how: str, turns: int
) -> None:
    """Whether or not the event loop has come to read that since."""
    story = Story(world, lambda db: kill(world, db))
    story.play(how, lambda db: give_way(turns if world.is_async else 0))
    check_told(story)


@pytest.mark.worlds(
    drivers=lambda driver: not is_sqlite(driver) and driver not in MYSQL, places=["scope"]
)
@pytest.mark.parametrize("how", HOW)
def test_a_goodbye_is_believed_before_the_connection_is_closed(
    world: World, proxy: Proxy, how: str
) -> None:
    """The server may be slow to hang up, or what is between. MariaDB says nothing before."""
    world.database = type(world.database)(proxy.through(world.url))
    proxy.keep_open()
    story = Story(world, lambda db: kill(world, db))
    story.play(how)
    check_told(story)


@SERVERS
@pytest.mark.parametrize("setting", PATIENCE)
@pytest.mark.parametrize("how", ["at the end", "by hand"])
def test_a_transaction_that_took_too_long_for_the_server_has_stored_nothing(
    world: World, how: str, setting: str
) -> None:
    """Its answer is there before COMMIT is sent. A server that has no such limit ends nothing."""
    known = world.look.scalar(KNOWN[world.look.url.get_backend_name()], setting)
    story = Story(world, lambda db: tire(world, db, setting) if known else kill(world, db))
    story.play(how)
    check_told(story)


@SERVERS
@pytest.mark.parametrize("how", HOW)
def test_a_wire_that_was_cut_before_commit_has_stored_nothing(
    world: World, proxy: Proxy, how: str
) -> None:
    """Nobody has said goodbye, but the socket is closed."""
    world.database = type(world.database)(proxy.through(world.url))
    story = Story(world, lambda db: proxy.cut_all())
    story.play(how)
    check_told(story)


@SERVERS
@pytest.mark.parametrize("cut", ["cut_before_commit", "cut_after_commit"])
@pytest.mark.parametrize("how", HOW)
def test_a_wire_that_is_cut_at_commit_leaves_the_outcome_open(
    world: World, proxy: Proxy, how: str, cut: str
) -> None:
    """COMMIT was sent, and that is all that is known."""
    world.database = type(world.database)(proxy.through(world.url))
    story = Story(world, lambda db: getattr(proxy, cut)())
    story.play(how)
    assert type(story.told) is TransactionOutcomeUnknown, story.told
    assert story.hooks == []
    assert world.items() == (["a"] if cut == "cut_after_commit" else [])
    assert world.database.stats()["outcomes_unknown"] == 1


@HERE
@pytest.mark.parametrize("how", HOW)
def test_a_transaction_that_has_sent_nothing_has_nothing_to_lose(world: World, how: str) -> None:
    """SQLAlchemy has begun, the driver has not, and a COMMIT of nothing is a success."""
    story = Story(world, lambda db: None)

    def nothing(db: Both) -> None:
        db.on_commit(lambda: story.hooks.append("committed"))
        plain(db)

    story.write = nothing  # type: ignore[method-assign]
    story.play(how)
    assert (story.told, story.hooks) == (None, ["committed"])


@HERE
def test_statements_of_the_connection_are_those_of_the_transaction(world: World) -> None:
    """SQLAlchemy's Core on the connection of the session goes past the session."""

    def work(db: Both) -> None:
        plain(db).execute(core_insert(Item).values(name="a"))
        dbapi(db).rollback()
        with pytest.raises(TransactionEndedOutside):
            plain(db).execute(core_insert(Item).values(name="b"))

    with pytest.raises(TransactionEndedOutside):
        world.run(work)
    assert world.items() == []
