"""The tools of the tests do what they say; otherwise the tests would prove nothing."""

import asyncio
import sqlite3
import time

import asyncpg
import psycopg
import pymysql
import pytest
from sqlalchemy.engine import make_url

from tests.support.look import Onlooker
from tests.support.mysql_wire import without_tls
from tests.support.processes import find_binaries
from tests.support.proxy import Proxy
from tests.support.wire import is_commit

BROKEN = (psycopg.OperationalError, OSError, asyncpg.PostgresConnectionError)
SURVIVORS = {"cut_before_commit": 0, "cut_after_commit": 1}  # rows, after each fault


def plain(url: str) -> str:
    """Write a URL as the drivers themselves want it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def table(postgres_url, look):
    """An onlooker at a database with an empty table."""
    onlooker = look(postgres_url)
    onlooker.execute("CREATE TABLE t (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    return onlooker


@pytest.fixture
def through(proxy, postgres_url):
    """The same database, through the proxy."""
    return plain(proxy.through(postgres_url))


def test_the_programs_of_postgresql_are_chosen_by_the_environment(tmp_path, monkeypatch):
    """Another version needs no change of the tests; a wrong folder is not passed over silently."""
    monkeypatch.setenv("TEST_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="initdb"):
        find_binaries()
    (tmp_path / "initdb").touch()
    assert find_binaries() == tmp_path.resolve()


def test_databases_are_separate(postgres, look):
    one = look(postgres.new_database("one"))
    two = look(postgres.new_database("two", driver="asyncpg"))
    one.execute("CREATE TABLE t (i int)")
    count = "SELECT count(*) FROM pg_tables WHERE tablename = ?"
    assert (one.scalar(count, "t"), two.scalar(count, "t")) == (1, 0)


def test_kill9_keeps_what_was_committed(private_postgres):
    with private_postgres.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS i")
        private_postgres.kill9()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        private_postgres.connect()
    private_postgres.start()
    with private_postgres.connect() as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SELECT i FROM t").fetchone() == (1,)


def test_stop_and_start(private_postgres):
    private_postgres.stop()
    assert not private_postgres.running
    private_postgres.start()
    private_postgres.connect().close()


def test_closing_a_killed_server(private_postgres):
    private_postgres.kill9()


@pytest.mark.parametrize("fault", SURVIVORS)
@pytest.mark.parametrize("prepared", [False, True])
def test_cut_at_commit_psycopg(proxy, through, table, fault, prepared):
    connection = psycopg.connect(through)
    connection.execute("INSERT INTO t VALUES (1)")
    getattr(proxy, fault)()
    with pytest.raises(BROKEN):
        if prepared:
            connection.execute("COMMIT", prepare=True)
        else:
            connection.commit()
    assert connection.closed
    assert proxy.cuts == 1
    assert len(table.rows("SELECT i FROM t")) == SURVIVORS[fault]
    with psycopg.connect(through) as again:
        again.execute("INSERT INTO t VALUES (2)")
    assert len(table.rows("SELECT i FROM t")) == SURVIVORS[fault] + 1


@pytest.mark.anyio
@pytest.mark.parametrize("fault", SURVIVORS)
@pytest.mark.parametrize("prepared", [False, True])
async def test_cut_at_commit_asyncpg(proxy, through, table, fault, prepared):
    connection = await asyncpg.connect(through)
    await connection.execute("BEGIN")
    await connection.execute("INSERT INTO t VALUES (1)")
    getattr(proxy, fault)()
    with pytest.raises(BROKEN):
        await (connection.fetch if prepared else connection.execute)("COMMIT;")
    assert proxy.cuts == 1
    assert len(table.rows("SELECT i FROM t")) == SURVIVORS[fault]
    connection.terminate()


def test_cut_after_a_commit_that_fails(proxy, through, table):
    connection = psycopg.connect(through)
    connection.execute("INSERT INTO t VALUES (1), (1)")
    proxy.cut_after_commit()
    with pytest.raises(psycopg.OperationalError):  # not the IntegrityError, which was cut off
        connection.commit()
    assert table.rows("SELECT i FROM t") == []


@pytest.mark.anyio
async def test_blackhole_hangs(proxy, through):
    connection = await asyncpg.connect(through)
    proxy.blackhole()
    with pytest.raises(TimeoutError):
        await connection.fetch("SELECT 1", timeout=0.2)
    with pytest.raises(TimeoutError):
        await asyncpg.connect(through, timeout=0.2)
    connection.terminate()
    proxy.pass_through()
    await (await asyncpg.connect(through)).close()


def test_the_server_does_not_hear_of_a_hang_up_in_a_blackhole(proxy, through, table):
    connection = psycopg.connect(through)
    connection.execute("SELECT 1")
    proxy.blackhole()
    connection.close()
    assert len(table.idle_in_transaction(patience=0.1)) == 1
    proxy.cut_all()
    eventually(lambda: not table.backends())


def test_refuse(proxy, through):
    with psycopg.connect(through) as old:
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(through)
        old.execute("SELECT 1")


def test_a_stopped_server_behind_the_proxy(private_postgres):
    with Proxy(private_postgres) as proxy:
        private_postgres.stop()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(plain(proxy.url))
        private_postgres.start()
        psycopg.connect(plain(proxy.url)).close()


def test_counts_psycopg(proxy, through):
    with psycopg.connect(through) as connection:
        connection.execute("SELECT %s", [1])
    assert proxy.sql == ["BEGIN", "SELECT $1", "COMMIT"]
    assert (proxy.connections, proxy.statements, proxy.round_trips) == (1, 3, 3)


@pytest.mark.anyio
async def test_counts_asyncpg(proxy, through):
    connection = await asyncpg.connect(through)
    async with connection.transaction():
        await connection.fetch("SELECT $1::int", 1)
    await connection.close()
    assert proxy.sql == ["BEGIN;", "SELECT $1::int", "COMMIT;"]
    assert proxy.round_trips == 4  # the SELECT is prepared first


def test_delay(proxy, through):
    with psycopg.connect(through, autocommit=True) as connection:
        proxy.delay = 0.1
        start = time.monotonic()
        connection.execute("SELECT 1")
        assert time.monotonic() - start >= 0.2
        proxy.delay = 0


def test_large_messages(proxy, through):
    text = "x" * 3_000_000
    with psycopg.connect(through) as connection:
        assert connection.execute("SELECT %s::text", [text]).fetchone() == (text,)


def test_counts_pymysql_though_the_server_offers_tls(mysql_server):
    """PyMySQL takes TLS where it is offered, and MariaDB offers it by itself since 11.4."""
    with Proxy(mysql_server) as proxy:
        where = make_url(proxy.through(mysql_server.url())).translate_connect_args(username="user")
        with pymysql.connect(**where) as connection:
            connection.cursor().execute("SELECT 1")
    assert proxy.sql[-1] == "SELECT 1"


@pytest.mark.parametrize("offered", [0xF7FE, 0xFFFE])
def test_a_greeting_loses_its_offer_of_tls_and_nothing_else(offered):
    before = b"\x4a\0\0\0\x0a11.8.9-MariaDB\0" + bytes(range(12)) + b"\0"
    rest = b"\x2d\2\0\xff\xc1more"
    greeting = without_tls(before + offered.to_bytes(2, "little") + rest)
    assert greeting == before + b"\xfe\xf7" + rest


@pytest.mark.parametrize(
    ("sql", "commits"),
    [
        ("COMMIT", True),
        (" /* trace */ commit;", True),
        ("END", True),
        ("ROLLBACK", False),
        ("SELECT 'COMMIT'", False),
        ("ENDLESS", False),
        (None, False),
    ],
)
def test_is_commit(sql, commits):
    assert is_commit(sql) is commits


def test_onlooker_sees_idle_in_transaction(table, postgres_url):
    with psycopg.connect(plain(postgres_url)) as connection:
        connection.execute("SELECT 1")
        (backend,) = table.idle_in_transaction(patience=0)
        assert backend.query == "SELECT 1"
        connection.commit()
        assert table.idle_in_transaction(patience=0) == []
        assert [each.state for each in table.backends()] == ["idle"]


def test_onlooker_waits_for_locks_of_postgresql_only_so_long(table, postgres_url):
    with psycopg.connect(plain(postgres_url)) as connection:
        connection.execute("LOCK TABLE t")
        with (
            Onlooker(postgres_url, patience=0.1) as hasty,
            pytest.raises(psycopg.errors.LockNotAvailable),
        ):
            hasty.scalar("SELECT count(*) FROM t WHERE i % ? = 0", 2)


def test_onlooker_sees_the_write_lock(tmp_path, look):
    url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    onlooker, writer = look(url), look(url)
    onlooker.execute("CREATE TABLE t (i int)")
    assert onlooker.write_lock_is_free()
    writer.execute("BEGIN IMMEDIATE")
    assert not onlooker.write_lock_is_free()
    locked = pytest.raises(sqlite3.OperationalError, match="locked")
    with Onlooker(url, patience=0.1) as hasty, locked:
        hasty.execute("INSERT INTO t VALUES (?)", 1)
    assert onlooker.scalar("SELECT i FROM t") is None
    writer.execute("ROLLBACK")
    assert onlooker.write_lock_is_free()


def test_onlooker_refuses_memory(look):
    with pytest.raises(ValueError, match="memory"):
        look("sqlite://")


def eventually(condition, seconds=20):
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def below_the_library(code):
    """Run code as if it stood in the library."""
    import dbscope

    where = dbscope.__path__[0] + "/pretended.py"
    namespace = {"time": time}
    exec(compile(code, where, "exec"), namespace)
    return namespace["run"]


@pytest.mark.anyio
async def test_blocking_is_seen_even_if_caught(blocking_calls):
    run = below_the_library("def run():\n try: time.sleep(0.01)\n except Exception: pass\n")
    run()
    assert [str(each) for each in blocking_calls] == ["Blocking call to time.sleep"]
    blocking_calls.clear()


@pytest.mark.anyio
async def test_blocking_in_a_thread_is_no_blocking():
    await asyncio.to_thread(below_the_library("def run(): time.sleep(0.01)"))
