"""A primary is killed at COMMIT, its standby takes over: what was once is done once, and told so.

Real servers and real replication; the application reaches whoever is the primary by one address.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.util import await_only, greenlet_spawn

from dbscope import DatabaseUnavailable, TransactionOutcomeUnknown
from dbscope.engine import lost_answer
from tests.fixtures import make_tables
from tests.once.conftest import make_tables as make_table_of_once
from tests.support.look import until
from tests.support.postgres import OwnServer
from tests.support.standby import Cluster, first_primary
from tests.worlds import SYNC, Both, World, insert, is_postgresql

pytestmark = [
    pytest.mark.worlds(drivers=is_postgresql, places=["scope"]),
    pytest.mark.usefixtures("late_outcome"),
    pytest.mark.timeout(120),
]
EMPTY = "TRUNCATE item, child, dbscope_once"


@contextmanager
def beside(when: Callable[[], bool], *acts: Callable[[], object]) -> Iterator[None]:
    """Act beside what is done inside, as soon as it comes to that."""

    def act() -> None:
        assert until(when)
        for each in acts:
            each()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(act)
        yield
    done.result()


@pytest.fixture(scope="module")
def servers() -> Iterator[list[OwnServer]]:
    """The primary, with the tables of the tests; that of one test follows that of the one before.

    The standby of one test is the primary of the next.
    """
    first = first_primary()
    make_tables(first.url())
    make_table_of_once(make_url(first.url()))
    servers = [first]
    yield servers
    for server in servers:
        server.close()


@pytest.fixture
def cluster(servers: list[OwnServer]) -> Iterator[Cluster]:
    """A primary with empty tables, and a standby that was just made of it."""
    primary = servers.pop()
    with primary.connect() as connection:
        connection.execute(EMPTY)
    made = Cluster(primary)
    servers.append(made.standby)
    yield made
    made.proxy.close()
    primary.close()
    if not made.standby.is_promoted:
        made.standby.promote()


class Application:
    """Does one thing under one key, as often as it is asked to.

    Args:
        world: whose driver it has.
        cluster: that it is led to.
    """

    def __init__(self, world: World, cluster: Cluster) -> None:
        driver = world.url.split(":")[0].partition("+")[2]
        self.world, self.cluster = world, cluster
        self.runs = 0
        self.hooks: list[str] = []
        url = cluster.proxy.through(cluster.primary.url(driver))
        self.world.database = type(world.database)(url)

    def ask(self, db: Both) -> int:
        """Ask for it, and return what came of it."""
        with db.scope(), db.once("k") as once:
            if not once.done:
                self.runs += 1
                once.result = self.runs
                insert(db, f"run {self.runs}")
                db.on_commit(lambda: self.hooks.append("committed"))
                db.on_rollback(lambda: self.hooks.append("rolled back"))
        result: int = once.result
        return result

    async def ask_and_be_cancelled(self, db: Both, when: Callable[[], bool]) -> None:
        """Ask for it, and be cancelled as soon as it comes to that."""
        task = asyncio.create_task(greenlet_spawn(self.ask, db))
        assert await asyncio.to_thread(until, when)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def play(self, story: Callable[[Both], None]) -> None:
        """Run a story, whose connection is made before."""

        def whole(db: Both) -> None:
            with db.scope():
                db.session.connection()
            story(db)

        self.world.play(whole)


@pytest.fixture
def app(world: World, cluster: Cluster) -> Application:
    """Return an application of each driver."""
    return Application(world, cluster)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is there for longer than the library would look for him; not to be waited for."""
    monkeypatch.setattr(lost_answer, "RECONNECTS", (0.0, 0.05, 0.1))


@pytest.mark.parametrize("synchronous", [True, False])
def test_what_the_standby_has_is_a_success(
    app: Application, cluster: Cluster, synchronous: bool
) -> None:
    """The answer is lost with the primary: the new one is asked, and hooks run."""
    cluster.standby.follow(synchronous=synchronous)

    def story(db: Both) -> None:
        cluster.proxy.cut_after_commit(then="hold")
        assert app.ask(db) == 1
        assert app.hooks == ["committed"]
        assert app.ask(db) == 1

    with beside(cluster.is_cut, cluster.standby.catch_up, cluster.fail_over):
        app.play(story)
    assert (app.runs, cluster.items()) == (1, ["run 1"])
    assert app.world.database.stats()["outcomes_verified"] == 1


def test_what_the_standby_has_not_is_done_again(app: Application, cluster: Cluster) -> None:
    """By asynchronous replication it is lost, though the primary had stored it."""
    cluster.standby.follow(synchronous=False)
    cluster.standby.hear_nothing()
    stored: list[Any] = []

    def look() -> None:
        stored.extend(cluster.rows(cluster.primary, "SELECT name FROM item"))

    def story(db: Both) -> None:
        cluster.proxy.cut_after_commit(then="hold")
        with pytest.raises(DatabaseUnavailable) as raised:
            app.ask(db)
        assert raised.value.nothing_was_stored
        assert app.hooks == ["rolled back"]
        assert [app.ask(db), app.ask(db)] == [2, 2]

    with beside(cluster.is_cut, look, cluster.fail_over):
        app.play(story)
    assert stored == [("run 1",)]
    assert (app.runs, cluster.items()) == (2, ["run 2"])


@pytest.mark.parametrize("is_lost", [False, True])
def test_while_there_is_no_primary_it_is_unknown(
    app: Application, cluster: Cluster, impatient: None, is_lost: bool
) -> None:
    """The repetition finds out: it returns the first result, or does it."""
    cluster.standby.follow(synchronous=not is_lost)
    if is_lost:
        cluster.standby.hear_nothing()

    def story(db: Both) -> None:
        cluster.proxy.cut_after_commit(then="refuse")
        with pytest.raises(TransactionOutcomeUnknown):
            app.ask(db)
        assert app.hooks == []
        cluster.fail_over()
        expected = 2 if is_lost else 1
        assert [app.ask(db), app.ask(db)] == [expected, expected]

    app.play(story)
    assert cluster.items() == [f"run {app.runs}"] == (["run 2"] if is_lost else ["run 1"])


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_standby_that_is_not_promoted_yet_is_no_witness(
    app: Application, cluster: Cluster, impatient: None, is_lost: bool
) -> None:
    """It does not show all that it has; and what it has not, another standby may have."""
    cluster.standby.follow(synchronous=False)
    if is_lost:
        cluster.standby.hear_nothing()
    else:
        cluster.standby.hold_back()
    received = [] if is_lost else [cluster.standby.catch_up]

    def story(db: Both) -> None:
        cluster.proxy.cut_after_commit(then="hold")
        with pytest.raises(TransactionOutcomeUnknown):
            app.ask(db)
        with pytest.raises(DatabaseUnavailable) as refused:
            app.ask(db)
        assert refused.value.nothing_was_stored
        assert app.hooks == []
        expected = app.runs + 1 if is_lost else 1
        cluster.standby.promote()
        assert [app.ask(db), app.ask(db)] == [expected, expected]

    with beside(cluster.is_cut, *received, cluster.lead_to_standby):
        app.play(story)
    assert cluster.items() == [f"run {app.runs if is_lost else 1}"]


def test_a_commit_that_waits_for_the_standby_is_not_stored_there(
    app: Application, cluster: Cluster
) -> None:
    """The primary has it on its disk, and is killed before the standby has it."""
    cluster.standby.follow(synchronous=True)
    cluster.standby.hear_nothing()

    def story(db: Both) -> None:
        with pytest.raises(DatabaseUnavailable) as raised:
            app.ask(db)
        assert raised.value.nothing_was_stored
        assert [app.ask(db), app.ask(db)] == [2, 2]

    with beside(cluster.is_waiting, cluster.proxy.hold, cluster.fail_over):
        app.play(story)
    assert (app.runs, cluster.items()) == (2, ["run 2"])


@pytest.mark.worlds(drivers=lambda each: is_postgresql(each) and each not in SYNC, places=["scope"])
def test_a_commit_that_is_cancelled_while_it_waits_for_the_standby_is_unknown(
    app: Application, cluster: Cluster
) -> None:
    """The primary ends the wait, and shows what the standby has not; no hook believes it."""
    cluster.standby.follow(synchronous=True)
    cluster.standby.hear_nothing()
    app.world.database._source.finish_timeout = 0.1
    shown: list[Any] = []

    def story(db: Both) -> None:
        await_only(app.ask_and_be_cancelled(db, cluster.is_waiting))
        shown.extend(cluster.rows(cluster.primary, "SELECT name FROM item"))
        assert (app.hooks, db.stats()["outcomes_unknown"]) == ([], 1)
        await_only(asyncio.to_thread(cluster.fail_over))
        assert [app.ask(db), app.ask(db)] == [2, 2]

    app.play(story)
    assert shown == [("run 1",)]
    assert (app.runs, app.hooks, cluster.items()) == (2, ["committed"], ["run 2"])
