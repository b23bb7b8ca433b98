"""The id of a transaction proves nothing beyond the life of the server that gave it."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from dbscope import TransactionOutcomeUnknown
from dbscope.engine import lost_answer
from dbscope.unit.block import Outcome
from tests.fixtures import make_tables
from tests.support.look import until
from tests.support.postgres import OwnServer, unavailable
from tests.support.processes import find_binaries
from tests.support.proxy import Proxy
from tests.worlds import Both, World, insert, is_postgresql

pytestmark = [
    pytest.mark.worlds(drivers=is_postgresql, places=["scope"]),
    pytest.mark.timeout(180),
]
# What was not committed is not written for as long as a test takes, nor is there a reason to.
LAZY = {"wal_writer_delay": "10s", "checkpoint_timeout": "1h", "autovacuum": "off"}
ATTEMPTS = 5  # somebody may have caused it to be written all the same


def own_server() -> OwnServer:
    """Return a server that is not started yet."""
    binaries = find_binaries()
    if binaries is None:
        unavailable("no PostgreSQL found that could be killed")
    server = OwnServer(binaries, fsync=False)
    server.settings |= LAZY
    return server


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    """A server to be killed, with the tables of the tests."""
    made = own_server()
    made.start()
    make_tables(made.url())
    yield made
    made.close()


@pytest.fixture
def replica(server: OwnServer) -> Iterator[OwnServer]:
    """A replica, which has not received what comes after."""
    server.stop()
    made = own_server()
    shutil.rmtree(made.folder / "data")
    subprocess.run(["cp", "-a", server.folder / "data", made.folder / "data"], check=True)
    signal_file = made.folder / "data" / "standby.signal"
    signal_file.touch()
    owner = (made.folder / "data").stat()
    os.chown(signal_file, owner.st_uid, owner.st_gid)
    made._url = made._url.set(password=server._url.password)
    made.start()
    server.start()
    yield made
    made.close()


def give_to_another(server: OwnServer, xid: str) -> bool:
    """Let somebody else commit by that id; tell whether the server has given it again."""
    with psycopg.connect(server.url(None)) as other:
        while True:
            row = other.execute("SELECT pg_current_xact_id()::text").fetchone()
            assert row is not None
            other.commit()
            if int(row[0]) >= int(xid):
                return row[0] == xid


class Loss:
    """A COMMIT whose answer is lost, and the server too before anybody can be asked."""

    def __init__(self, world: World, server: OwnServer, crash: Callable[[], OwnServer]) -> None:
        self.world, self.server, self.crash = world, server, crash
        self.again = False  # somebody else was given the same id
        self.outcomes: list[Any] = []

    def happen(self, cut: str) -> None:
        """Let it happen, and find it told as unknown."""
        driver = self.world.url.split(":")[0].partition("+")[2]
        with Proxy(self.server) as proxy, pytest.MonkeyPatch.context() as patch:
            self.proxy, self.ask = proxy, lost_answer.outcome
            patch.setattr(lost_answer, "outcome", self.ask_later)
            url = proxy.through(self.server.url(driver))
            self.world.database = type(self.world.database)(url, verify_commit=True)
            self.world.play(lambda db: self.story(db, cut))

    def story(self, db: Both, cut: str) -> None:
        with db.scope():
            db.session.connection()
        getattr(self.proxy, cut)()
        with pytest.raises(TransactionOutcomeUnknown), db.scope():
            insert(db, "a")
            db.on_commit(pytest.fail)

    def ask_later(self, engine: Any, unit: Any, lasts: Any) -> Any:
        self.proxy.server = self.crash()
        self.again = give_to_another(self.proxy.server, unit.proof.xid)
        self.outcomes.append(self.ask(engine, unit, lasts))
        return self.outcomes[-1]


def kill_all(server: OwnServer) -> OwnServer:
    """SIGKILL to all of it; then it is started again."""
    server.kill9()
    server.start()
    return server


def kill_one(server: OwnServer) -> OwnServer:
    """SIGKILL to the process of one client: the postmaster lives, and begins anew."""
    with server.connect() as victim:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        assert until(lambda: is_gone(victim))
    assert until(lambda: accepts(server))
    return server


def fail_over(server: OwnServer, replica: OwnServer) -> OwnServer:
    """Kill the primary, and make the replica the primary."""
    server.kill9()
    with replica.connect() as connection:
        connection.execute("SELECT pg_promote(true, 60)")
    return replica


def is_gone(connection: Any) -> bool:
    """Tell whether the server has ended a connection."""
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


def accepts(server: OwnServer) -> bool:
    """Tell whether a server can be connected to."""
    try:
        server.connect().close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("crash", [kill_all, kill_one])
def test_after_a_crash_the_id_is_somebody_elses(
    world: World, server: OwnServer, crash: Callable[[OwnServer], OwnServer]
) -> None:
    """The server dies before COMMIT is on the disk, and gives the id again."""
    for _ in range(ATTEMPTS):
        loss = Loss(world, server, lambda: crash(server))
        loss.happen("cut_before_commit")
        assert loss.outcomes == [Outcome.UNKNOWN]
        if loss.again:
            return
    pytest.fail("The server has never given an id again.")


def test_after_a_failover_the_id_is_somebody_elses(
    world: World, server: OwnServer, replica: OwnServer
) -> None:
    """The replica has not received what the primary has stored, and gives the id again."""
    loss = Loss(world, server, lambda: fail_over(server, replica))
    loss.happen("cut_after_commit")
    assert loss.outcomes == [Outcome.UNKNOWN]
    assert loss.again
    server.start()  # for whoever is next
    with server.connect() as look:
        assert look.execute("SELECT name FROM item WHERE name = 'a'").fetchone() is not None
        look.execute("TRUNCATE item, child")


def test_whoever_may_read_little_gets_the_proof_all_the_same(
    world: World, server: OwnServer
) -> None:
    """An application is no superuser, and its sessions have a time zone."""
    with server.connect() as admin:
        admin.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        admin.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO plain")
        admin.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO plain")
        try:
            asks_as_plain(world, server)
            assert admin.execute("SELECT name FROM item").fetchall() == [("a",)]
        finally:
            admin.execute("TRUNCATE item, child; DROP OWNED BY plain; DROP ROLE plain")


def asks_as_plain(world: World, server: OwnServer) -> None:
    """Lose the answer as a user that may read and write, and no more."""
    driver = world.url.split(":")[0].partition("+")[2]
    with Proxy(server) as proxy:
        url = make_url(proxy.through(server.url(driver))).set(username="plain", password="plain")
        world.database = type(world.database)(url, verify_commit=True)

        def story(db: Both) -> None:
            with db.scope():
                db.session.connection()
            proxy.cut_after_commit()
            with db.scope():
                db.execute(text("SET TIME ZONE 'Asia/Kolkata'"))
                insert(db, "a")

        world.play(story)
    assert world.database.stats()["outcomes_verified"] == 1
