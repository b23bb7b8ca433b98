"""The engine for read-only scopes hears what is said to `db.engine`."""

from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text

from dbscope import ReadOnlyViolation
from tests.worlds import Both, Item, World, insert, is_sqlite, plain_engine, waiting

in_scope = pytest.mark.worlds(places=["scope"])
WHEN = pytest.mark.parametrize("when", ["before", "after"])


def read(db: Both) -> Any:
    """Read in a read-only scope."""
    with db.scope(readonly=True):
        return db.scalars(select(Item.name)).all()


@in_scope
@WHEN
def test_who_listens_to_statements_hears_each_once(world: World, when: str) -> None:
    """A tracer (`instrument(engine=)`), whether it came before the first read or after it."""
    engine, heard = plain_engine(world.database), []

    def story(db: Both) -> None:
        if when == "after":
            read(db)

        @event.listens_for(engine, "before_cursor_execute", retval=True)
        def listen(conn: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> Any:
            heard.append(conn.engine.url)
            return f"/* traced */ {statement}", parameters

        read(db)
        assert heard == [engine.url]
        db.dispose()
        read(db)
        assert len(heard) == 2
        event.remove(engine, "before_cursor_execute", listen)
        read(db)
        assert len(heard) == 2

    world.play(story)


@in_scope
def test_who_listens_to_all_engines_hears_each_statement_once(world: World) -> None:
    """Sentry does."""
    heard: list[str] = []

    def listen(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        heard.append(statement)

    def connected(*args: Any) -> None:
        heard.append("connect")

    event.listen(Engine, "before_cursor_execute", listen)
    event.listen(Engine, "connect", connected)
    try:
        world.database = type(world.database)(world.url)
        world.play(lambda db: (heard.clear(), read(db)))
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
        event.remove(Engine, "connect", connected)
    assert [each == "connect" or "FROM item" in each for each in heard].count(True) == 2
    assert heard.count("connect") == 1


@in_scope
@WHEN
def test_each_connection_is_made_as_the_application_says(world: World, when: str) -> None:
    """`do_connect`: a token that is asked for each time, for example of a cloud."""
    engine, asked = plain_engine(world.database), []

    def story(db: Both) -> None:
        if when == "after":
            read(db)
            db.dispose()

        @event.listens_for(engine, "do_connect")
        def ask(dialect: Any, record: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
            asked.append(dialect.name)
            kwargs |= {"options": "-c application_name=told"} if has_options else {}

        read(db)
        assert len(asked) == 1

    has_options = world.driver.startswith("psycopg")
    world.play(story)


@in_scope
@pytest.mark.parametrize("how", ["in its arguments", "by itself"])
def test_what_the_application_connects_by_itself_cannot_write_either(
    world: World, how: str
) -> None:
    """A listener to `do_connect` may set other options, or return a connection."""
    engine = plain_engine(world.database)

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if how == "by itself":
            return engine.dialect.loaded_dbapi.connect(*args, **kwargs)
        if world.driver == "asyncpg":
            kwargs["server_settings"] = {"application_name": "told"}
        elif world.driver.startswith("psycopg"):
            kwargs["options"] = "-c application_name=told"
        return None

    def story(db: Both) -> None:
        with db.scope(readonly=True):
            with pytest.raises(ReadOnlyViolation):
                sneak(db)
            db.session.rollback()

    def sneak(db: Both) -> None:
        def write(session: Any) -> None:
            session.connection().exec_driver_sql("INSERT INTO item (name) VALUES ('b')")

        db.session.run_sync(write) if db.is_async else write(db.session)

    world.play(story)
    assert world.items() == []


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
@WHEN
def test_functions_of_sqlite_are_there_for_readers(world: World, when: str) -> None:
    """A listener to `connect` brings them, and may write when it does."""
    engine = plain_engine(world.database)

    def story(db: Both) -> None:
        if when == "after":
            read(db)
            db.dispose()

        @event.listens_for(engine, "connect")
        def on_connect(connection: Any, record: Any) -> None:
            driver = getattr(connection, "driver_connection", connection)
            waiting(driver.create_function)("twice", 1, lambda number: number * 2)
            connection.cursor().execute("CREATE TABLE IF NOT EXISTS seen (n INTEGER)")

        with db.scope(readonly=True):
            assert db.scalar(text("SELECT twice(21)")) == 42

    world.play(story)


@in_scope
def test_who_listens_once_hears_once(world: World) -> None:
    """Of both kinds of connections."""
    heard: list[Any] = []
    event.listen(plain_engine(world.database), "connect", lambda *args: heard.append(1), once=True)

    def story(db: Both) -> None:
        read(db)
        with db.scope():
            insert(db, "a")

    world.play(story)
    assert heard == [1]


@in_scope
def test_both_kinds_of_connections_are_out_of_one_engine_for_who_listens(world: World) -> None:
    """Check-outs and check-ins are heard of both pools, in pairs."""
    heard: list[str] = []
    engine = plain_engine(world.database)
    for name in ("checkout", "checkin"):
        event.listen(engine, name, lambda *args, name=name: heard.append(name))

    def story(db: Both) -> None:
        read(db)
        with db.scope():
            insert(db, "a")
        assert heard == ["checkout", "checkin"] * 2

    world.play(story)
