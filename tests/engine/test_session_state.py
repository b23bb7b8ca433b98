"""`reset_session`: nothing that a scope has left in its session of the server is there again."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from dbscope import AsyncDatabase, ConfigurationError, Database, ImplicitCommit
from tests.support.look import until
from tests.support.proxy import Proxy
from tests.worlds import (
    DRIVERS,
    SYNC,
    Both,
    Item,
    World,
    insert,
    is_postgresql,
    is_sqlite,
    plain_engine,
)

servers = pytest.mark.worlds(drivers=lambda each: not is_sqlite(each), places=["scope"])
ON_POSTGRESQL = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
ON_MARIADB = pytest.mark.worlds(drivers=lambda each: DRIVERS[each][:5] == "mysql", places=["scope"])
ONE = {"pool_size": 1, "max_overflow": 0}

# What is left, and the question that tells whether it is there (1) or not (0).
LEFT = {
    "postgresql": {
        "advisory lock": (
            "SELECT pg_advisory_lock(7)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        ),
        "SET": (
            "SET statement_timeout = '77s'",
            "SELECT count(*) WHERE current_setting('statement_timeout') = '77s'",
        ),
        "SET of a name of its own": (
            "SET app.tenant = 'a'",
            "SELECT count(*) WHERE current_setting('app.tenant', true) = 'a'",
        ),
        "role": (
            "SET ROLE pg_read_all_data",
            "SELECT count(*) WHERE current_user = 'pg_read_all_data'",
        ),
        "user": (
            "SET SESSION AUTHORIZATION pg_read_all_data",
            "SELECT count(*) WHERE session_user = 'pg_read_all_data'",
        ),
        "temporary table": (
            "CREATE TEMPORARY TABLE left_over (id int)",
            "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
        ),
        "LISTEN": ("LISTEN news", "SELECT count(*) FROM pg_listening_channels()"),
        "prepared statement": (
            'PREPARE "Left over" AS SELECT 1',
            "SELECT count(*) FROM pg_prepared_statements WHERE from_sql",
        ),
        "cursor": (
            "DECLARE left_over CURSOR WITH HOLD FOR SELECT 1",
            "SELECT count(*) FROM pg_cursors WHERE name = 'left_over'",
        ),
    },
    "mysql": {
        "lock": ("DO GET_LOCK('left', 0)", "SELECT IS_USED_LOCK('left') <=> CONNECTION_ID()"),
        "SET": (
            "SET SESSION sort_buffer_size = 777216",
            "SELECT @@SESSION.sort_buffer_size = 777216",
        ),
        "user variable": ("SET @tenant = 'a'", "SELECT @tenant <=> 'a'"),
        "temporary table": (
            "CREATE TEMPORARY TABLE item AS SELECT 1 AS id",
            "SELECT count(*) FROM item",  # which is empty but for that
        ),
        "prepared statement": (
            "PREPARE left_over FROM 'SELECT 1'",
            "EXECUTE left_over",  # an error if there is none
        ),
        "database": ("USE information_schema", "SELECT DATABASE() = 'information_schema'"),
    },
}
REFUSED_READ_ONLY = {"temporary table"}  # by the server
READ_ONLY = {
    backend: [what for what in all_of_it if what not in REFUSED_READ_ONLY]
    for backend, all_of_it in LEFT.items()
}


def use(world: World, **settings: Any) -> None:
    """Make the database of a world anew: with one connection, so that it comes again."""
    settings = {"reset_session": True, "engine_options": ONE} | settings
    world.database = type(world.database)(world.url, **settings)


def run(db: Both, sql: str) -> Any:
    """Run a statement in the session of the current scope, past what we think of it."""
    connection = db.session.connection()
    return getattr(connection, "sync_connection", connection).exec_driver_sql(sql)


def session_of(db: Both) -> Any:
    """Return which session of the server it is."""
    on_postgresql = db.real.url.get_backend_name() == "postgresql"
    return run(db, f"SELECT {'pg_backend_pid' if on_postgresql else 'CONNECTION_ID'}()").scalar()


def is_there(db: Both, question: str) -> bool:
    """Ask the session of the current scope; an error means that it is not."""
    try:
        return bool(int(run(db, question).scalar()))
    except DBAPIError:
        db.set_rollback(True)
        return False


def is_left(world: World, what: str, how: str = "plain") -> bool:
    """Leave something in a session, and tell whether the next scope finds it there."""
    leave, question = LEFT[world.look.url.get_backend_name()][what]
    scope = {"readonly": True} if how == "read-only" else {}

    def story(db: Both) -> bool:
        with suppress(ZeroDivisionError), db.scope(**scope), db.atomic():
            first = session_of(db)
            run(db, leave).close()
            if how == "after an error":
                raise ZeroDivisionError
        with db.scope(**scope), db.atomic():
            assert session_of(db) == first
            return is_there(db, question)

    return bool(world.play(story))


@pytest.mark.parametrize("what", LEFT["postgresql"])
@ON_POSTGRESQL
def test_postgresql_keeps_it_without(world: World, what: str) -> None:
    """The control of what follows: the next scope has what this one has left."""
    use(world, reset_session=False)
    assert is_left(world, what)


@pytest.mark.parametrize("what", LEFT["mysql"])
@ON_MARIADB
def test_mariadb_keeps_it_without(world: World, what: str) -> None:
    """The control of what follows: the next scope has what this one has left."""
    use(world, reset_session=False)
    assert is_left(world, what)


@pytest.mark.parametrize("how", ["plain", "after an error"])
@pytest.mark.parametrize("what", LEFT["postgresql"])
@ON_POSTGRESQL
def test_what_was_left_in_postgresql_is_gone(world: World, what: str, how: str) -> None:
    """Read back from the same session of the server, by the next scope."""
    use(world)
    assert not is_left(world, what, how)


@pytest.mark.parametrize("how", ["plain", "after an error"])
@pytest.mark.parametrize("what", LEFT["mysql"])
@ON_MARIADB
def test_what_was_left_in_mariadb_is_gone(world: World, what: str, how: str) -> None:
    """Read back from the same session of the server, by the next scope."""
    use(world)
    assert not is_left(world, what, how)


@pytest.mark.parametrize("what", READ_ONLY["postgresql"])
@ON_POSTGRESQL
def test_what_a_reader_of_postgresql_has_left_is_gone(world: World, what: str) -> None:
    """Its connections are of a pool of their own."""
    use(world)
    assert not is_left(world, what, "read-only")


@pytest.mark.parametrize("what", READ_ONLY["mysql"])
@ON_MARIADB
def test_what_a_reader_of_mariadb_has_left_is_gone(world: World, what: str) -> None:
    """Its connections are of a pool of their own."""
    use(world)
    assert not is_left(world, what, "read-only")


SETTING_UP = {
    "postgresql": (
        "SET statement_timeout = '55s'; SET search_path = shop, 'a''b\\'; SET ROLE pg_monitor",
        (
            "SELECT concat_ws(' ', current_setting('transaction_read_only'), "
            "current_setting('statement_timeout'), current_setting('search_path'), current_user)"
        ),
        ["SET statement_timeout = 0", "SET search_path = public", "RESET ROLE"],
    ),
    "mysql": (
        "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', sort_buffer_size = 777216",
        (
            "SELECT CONCAT_WS(' ', @@SESSION.tx_read_only, @@sql_mode, @@sort_buffer_size, "
            "@@autocommit, @@collation_connection, @@character_set_results, DATABASE())"
        ),
        ["SET SESSION sql_mode = ''", "SET NAMES latin1", "USE mysql"],
    ),
}


@pytest.mark.parametrize("readonly", [False, True])
@servers
def test_what_a_connection_was_set_up_with_is_there_again(world: World, readonly: bool) -> None:
    """What listeners to `connect` have SET, the driver and we: also that it cannot write."""
    set_up, question, others = SETTING_UP[world.look.url.get_backend_name()]
    use(world)

    @event.listens_for(plain_engine(world.database), "connect")
    def on_connect(connection: Any, record: Any) -> None:
        for each in set_up.split(";"):
            cursor = connection.cursor()
            cursor.execute(each)
            cursor.close()
        connection.commit()

    def story(db: Both) -> None:
        seen = []
        for _ in range(3):
            with db.scope(readonly=readonly), db.atomic():
                seen.append((session_of(db), run(db, question).scalar()))
                for each in () if readonly else others:
                    run(db, each).close()
        assert len(set(seen)) == 1, seen
        assert (seen[0][1].split()[0].lower() in {"on", "1"}) is readonly

    world.play(story)


@ON_POSTGRESQL
def test_what_the_login_has_said_is_there_again(world: World) -> None:
    """Where a name of an application's own belongs, for the server has no list of those."""
    login: dict[str, Any] = {"options": "-c app.service=shop"}
    if world.driver == "asyncpg":
        login = {"server_settings": {"app.service": "shop"}}
    use(world, engine_options=ONE | {"connect_args": login})

    def story(db: Both) -> None:
        for _ in range(2):
            with db.scope():
                service = run(db, "SELECT current_setting('app.service')").scalar()
                assert service == "shop"
                run(db, "SET app.service = 'other'").close()

    world.play(story)


@pytest.mark.worlds(drivers=lambda driver: driver == "asyncpg", places=["scope"])
def test_who_listens_again_hears_again(world: World) -> None:
    """asyncpg sends LISTEN for the first listener only, and has to know that it is over."""
    use(world)

    def story(db: Both) -> None:
        for _ in range(2):
            with db.scope():
                connection = db.session.connection().sync_connection
                driver = connection.connection.driver_connection
                await_only(driver.add_listener("news", print))
                db.session.commit()
            with db.scope():
                assert run(db, "SELECT count(*) FROM pg_listening_channels()").scalar() == 0
        with db.scope(), db.atomic():
            driver = db.session.connection().sync_connection.connection.driver_connection
            assert driver._listeners == {}

    world.play(story)


@ON_POSTGRESQL
def test_behind_a_pooler_nothing_is_sent(world: World, proxy: Proxy) -> None:
    """The session is somebody else's already."""
    url = proxy.through(world.url)
    world.database = type(world.database)(url, reset_session=True, engine_options=ONE)
    world.database._source.backend.pooler.found = True

    def story(db: Both) -> None:
        for _ in range(2):
            with db.scope():
                assert session_of(db)
        assert not any("pg_advisory_unlock_all" in sql for sql in proxy.sql)

    world.play(story)


@servers
def test_what_a_scope_does_is_as_without(world: World) -> None:
    """Statements that are prepared, limits of time, and COMMIT, again and again."""
    use(world)

    def story(db: Both) -> None:
        for number in range(8):  # psycopg prepares the sixth
            with db.scope(), db.atomic(timeout=30):
                insert(db, str(number))
                assert len(db.scalars(select(Item)).all()) == number + 1

    world.play(story)
    assert len(world.items()) == 8


@pytest.mark.worlds(drivers=lambda each: not is_sqlite(each) and each not in SYNC, places=["scope"])
def test_a_cancelled_scope_leaves_nothing(world: World) -> None:
    """Its lock is free, its connection is back, and the pool serves."""
    use(world)
    backend = world.look.url.get_backend_name()
    what = "advisory lock" if backend == "postgresql" else "lock"
    leave, question = LEFT[backend][what]
    db: Any = world.database

    async def hold(held: asyncio.Event) -> None:
        async with db.scope():
            await db.execute(text(leave))
            held.set()
            await db.execute(text(world.sleep(60)))

    async def story() -> None:
        held = asyncio.Event()
        task = asyncio.create_task(hold(held))
        await held.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with db.scope():
            assert not int(await db.scalar(text(question)))
        assert db.stats()["pool_checked_out"] == 0
        await db.dispose()

    asyncio.run(story())
    held = {
        "postgresql": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())",
        "mysql": "SELECT IS_USED_LOCK('left') IS NOT NULL",
    }[backend]
    assert until(lambda: not world.look.rows(held)[0][0])


@servers
def test_a_session_that_cannot_be_reset_is_ended(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The work is stored and answered for; the log says why the connection is gone."""
    use(world)
    kill = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
            first = session_of(db)
            engine = plain_engine(db.real)

            def end(connection: Any) -> None:  # COMMIT is answered, the reset is still to come
                world.look.execute(kill[world.look.url.get_backend_name()].format(first))

            event.listen(engine, "reset", lambda *args: end(None), once=True, insert=True)
        with db.scope():
            assert session_of(db) != first
        assert db.stats()["connections_discarded"] == 1

    with caplog.at_level(logging.WARNING, "dbscope"):
        world.play(story)
    assert [each.name for each in caplog.records if "could not be reset" in each.getMessage()]
    assert world.items() == ["a"]


@pytest.mark.parametrize(("reset_session", "trips"), [(False, 3), (True, 4)])
@ON_POSTGRESQL
def test_it_costs_one_round_trip(
    world: World, proxy: Proxy, reset_session: bool, trips: int
) -> None:
    """For each time that a connection comes back; nothing for a scope that took none."""
    world.database = type(world.database)(proxy.through(world.url), reset_session=reset_session)

    def story(db: Both) -> None:
        for _ in range(8):
            proxy.reset_counts()
            with db.scope():
                db.scalar(select(Item.name))
        assert (proxy.connections, proxy.round_trips) == (0, trips), proxy.sql
        proxy.reset_counts()
        with db.scope():
            assert db.session
        assert proxy.round_trips == 0

    world.play(story)


@servers
def test_an_engine_that_was_made_elsewhere_is_served_too(world: World) -> None:
    """With what it does itself when a connection comes back."""
    create: Any = create_async_engine if world.is_async else create_engine
    engine = create(world.url, **ONE)
    world.database = type(world.database)(engine=engine, reset_session=True)
    backend = world.look.url.get_backend_name()
    assert not is_left(world, "advisory lock" if backend == "postgresql" else "lock")


@ON_POSTGRESQL
def test_what_is_never_used_again_is_not_reset(world: World, proxy: Proxy) -> None:
    """A connection that is closed after its scope ends its session with it."""
    options = {"poolclass": NullPool}
    url = proxy.through(world.url)
    world.database = type(world.database)(url, reset_session=True, engine_options=options)

    def story(db: Both) -> None:
        for _ in range(2):
            with db.scope():
                assert session_of(db)
        assert not any("pg_advisory_unlock_all" in sql for sql in proxy.sql)

    world.play(story)


@pytest.mark.parametrize("kind", [AsyncDatabase, Database])
def test_sqlite_is_refused(kind: Any) -> None:
    """Its connections have temporary tables and PRAGMAs, and no way to be as they were."""
    with pytest.raises(ConfigurationError, match="`reset_session`"):
        kind("sqlite:///a.db", reset_session=True)


@ON_MARIADB
@pytest.mark.parametrize("reset", [True, False])
def test_tables_that_a_scope_has_locked_are_free_again(world: World, reset: bool) -> None:
    """Whoever has locked one cannot read another (error 1100)."""
    use(world, reset_session=reset)

    def story(db: Both) -> bool:
        with suppress(ImplicitCommit), db.scope():
            insert(db, "a")  # which is committed by what follows
            run(db, "LOCK TABLES item READ")
        with db.scope():
            return is_there(db, "SELECT count(*) + 1 FROM child")

    assert world.run(story) is reset
