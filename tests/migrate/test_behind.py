"""Behind a pooler no session is ours, and on Galera no lock of a node is seen by the others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from sqlalchemy import make_url

from dbscope import Database
from dbscope.backends.mysql import migration_lock as mysql
from dbscope.backends.postgresql import migration_lock as postgresql
from dbscope.migrate import Migrations
from tests.migrate.project import ON_MYSQL, ON_POSTGRESQL, Project, environment
from tests.migrate.test_ends import failure
from tests.support import galera, warm
from tests.support.look import Onlooker
from tests.support.pgbouncer import PROGRAM, pgbouncer

ROUNDS = int(os.environ.get("ROUNDS", "2"))
AT_ONCE = 8
START = """
import sys
from dbscope import {kind}
from dbscope.migrate import Migrations
db = {kind}(sys.argv[1])
print(sys.stdin.readline() and "go", flush=True)
print([each.id for each in Migrations(db, {config!r}).upgrade()])
"""
WORKER = """
import sys
from dbscope import {kind}, MigrationError
from dbscope.migrate import Migrations
for _ in sys.stdin:
    try:
        done = Migrations({kind}(sys.argv[1]), {config!r}).upgrade()
        print([each.id for each in done], flush=True)
    except MigrationError as error:
        print(str(error).splitlines()[0], flush=True)
"""
ADVISORY = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = {}"

pooled = [
    pytest.mark.worlds(drivers=ON_POSTGRESQL),
    pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed"),
]


def at_once(project: Project, urls: list[str]) -> list[tuple[int, str]]:
    """Start a process for each URL; give what each has returned and printed."""
    kind = type(project.db).__name__
    code = START.format(kind=kind, config=str(project.config))
    started = [
        warm.Popen(
            [sys.executable, "-c", code, url],
            cwd=project.root,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for url in urls
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [(process, process.communicate(timeout=100)[0]) for process in started]
    return [(process.returncode, printed) for process, printed in ended]


def plain(url: str) -> str:
    """Return a URL as psycopg takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def write_slow(project: Project) -> None:
    """Write revisions that take a while, one of them partly outside of a transaction."""
    project.write("items", 'op.execute("CREATE TABLE item (id int)")\nimport time; time.sleep(0.2)')
    project.write("row", 'op.execute("INSERT INTO item VALUES (1)")', down="items")
    project.write(
        "index",
        """
        with op.get_context().autocommit_block():
            op.execute("CREATE INDEX CONCURRENTLY ix ON item (id)")
        """,
        down="row",
    )


@pytest.fixture
def through(project: Project) -> Iterator[str]:
    """The URL of the database through PgBouncer in transaction mode."""
    with pgbouncer(project.url, "transaction") as url:
        yield url


class TestBehindAPooler:
    """The lock belongs to a transaction of a second connection."""

    pytestmark = pooled

    @pytest.mark.timeout(150 * ROUNDS)
    def test_many_start_at_once(self, project: Project, through: str):
        """Each revision is run once, all serve, and no lock stays with the pooler."""
        write_slow(project)
        for _ in range(ROUNDS):
            ended = at_once(project, [through] * AT_ONCE)
            assert [status for status, _ in ended] == [0] * AT_ONCE, ended
            runs = [printed for _, printed in ended if "items" in printed]
            assert runs == ["go\n['items', 'row', 'index']\n"]
            assert project.column("SELECT count(*) FROM item") == [1]
            oid = "(SELECT oid FROM pg_database WHERE datname = current_database())"
            assert project.column(ADVISORY.format(oid)) == [0]
            project.execute("DROP TABLE item, alembic_version")

    def test_who_comes_directly_waits_for_who_comes_by_the_pooler(
        self, project: Project, through: str
    ):
        """And is told who that is: it is one lock, whichever way it is taken."""
        project.write("items", 'op.execute("CREATE TABLE item (id int)")')
        db = type(project.db)(through)
        own = (db.engine.sync_engine if db.is_async else db.engine).url
        assert own.port != make_url(project.url).port
        direct = psycopg.connect(
            make_url(through).set(drivername="postgresql").render_as_string(hide_password=False),
            prepare_threshold=None,
        )
        with direct:
            direct.execute("SELECT pg_advisory_xact_lock(%s)", [postgresql.KEY])
            for each in (db, project.db):
                hasty = Migrations(each, project.config, lock_timeout=0.2)
                assert "Another process is migrating" in failure(hasty.upgrade)
        assert [each.id for each in Migrations(db, project.config).upgrade()] == ["items"]
        assert project.migrations.upgrade() == ()

    def test_a_lock_that_is_lost_stops_the_revisions(self, project: Project, through: str):
        """The one that was running is rolled back: another process may run it by now."""
        project.write(
            "items",
            f"""
            op.execute("CREATE TABLE item (id int)")
            import psycopg
            url = {plain(project.url)!r}
            with psycopg.connect(url) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity"
                    " USING (pid) WHERE locktype = 'advisory' AND datname = current_database()"
                )
            """,
        )  # fmt: skip
        migrations = Migrations(type(project.db)(through), project.config)
        told = failure(migrations.upgrade)
        assert "The lock of the migration was lost with its connection" in told
        assert project.stored() == []
        assert "item" not in project.tables()


@pytest.mark.worlds(drivers=ON_MYSQL)
def test_on_galera_it_is_refused_with_the_remedy(project: Project, monkeypatch):
    """What GET_LOCK holds is not held on another node; `alone` says that nobody is there."""
    project.write("items", 'op.execute("CREATE TABLE item (id int)")')
    monkeypatch.setattr(mysql, "NODES", mysql.text("SELECT 'wsrep_cluster_size', '3'"))
    told = failure(project.migrations.upgrade)
    assert "a Galera cluster of 3 nodes" in told
    assert "`dbscope upgrade --alone`" in told
    assert project.tables() == set()
    alone = Migrations(project.db, project.config, alone=True)
    assert [each.id for each in alone.upgrade()] == ["items"]
    assert project.migrations.upgrade() == ()  # what has nothing to do needs no lock


@pytest.mark.skipif(not galera.NODES, reason="TEST_GALERA_URLS names no nodes")
@pytest.mark.worlds(drivers=ON_MYSQL)
@pytest.mark.timeout(300 * ROUNDS)
def test_many_start_at_once_on_the_nodes_of_a_galera_cluster(project: Project):
    """All refuse and name the remedy, and change nothing; by it each revision is run once."""
    project.write("items", 'op.execute("CREATE TABLE item (id int primary key)")')
    nodes = galera.urls(make_url(project.url).get_driver_name())
    clean(nodes[0])
    with workers(project, [nodes[number % len(nodes)] for number in range(AT_ONCE)]) as start:
        for _ in range(ROUNDS):
            refused = start()
            assert all("`dbscope upgrade --alone`" in each for each in refused), refused
            db = Database(galera.urls("pymysql")[0])
            assert len(Migrations(db, project.config, alone=True).upgrade()) == 1
            db.dispose()
            assert start() == ["[]"] * AT_ONCE
            clean(nodes[0])


@contextmanager
def workers(project: Project, urls: list[str]) -> Iterator[Callable[[], list[str]]]:
    """Start a process for each URL; give what has all migrate at once, and tells what each said."""
    kind = type(project.db).__name__
    code = WORKER.format(kind=kind, config=str(project.config))
    with ExitStack() as stack:
        started = [stack.enter_context(project.spawn("-c", code, url)) for url in urls]

        def start() -> list[str]:
            for process in started:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            return [process.stdout.readline().strip() for process in started if process.stdout]

        yield start


def clean(url: str) -> None:
    """Drop what a round has made."""
    with Onlooker(url) as look:
        look.execute("DROP TABLE IF EXISTS item, alembic_version")


@pytest.mark.worlds(drivers=[*ON_POSTGRESQL, *ON_MYSQL, "sqlite3"])
@pytest.mark.parametrize("target", ["heads", "schema@head", "data@head", "items"])
def test_a_start_with_nothing_to_do_takes_no_lock(project: Project, monkeypatch, target: str):
    """Whoever holds it, and whatever the target is."""
    project.write("items", 'op.execute("CREATE TABLE item (id int)")')
    project.write("seed", "pass", branch="data", depends_on="items")
    project.migrations.upgrade()

    def held(*_: object, **__: object) -> None:
        raise AssertionError("the lock was asked for")

    monkeypatch.setattr(type(project.db.backend.migrating()), "lock", held)
    assert project.migrations.upgrade(target) == ()
