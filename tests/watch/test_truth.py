"""The line of a record says what the server says, however the work was sent and has ended."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import insert as core_insert
from sqlalchemy import select, text

from dbscope import DatabaseUnavailable, TransactionEndedOutside
from dbscope.once import metadata
from dbscope.watch.sql import parse
from tests.unit.blocks import Trouble
from tests.unit.test_ended_outside import kill
from tests.worlds import MYSQL, Both, Item, World, insert, is_sqlite

Story = Callable[[Both], None]
NAMES = [{"name": "a"}, {"name": "b"}, {"name": "c"}]
scopes = pytest.mark.worlds(places=["scope"])
OUTSIDE = "the transaction was ended on the driver's connection"


@pytest.fixture
def watch(world: World) -> Iterator[Any]:
    """Return the watch of the world, which is on."""
    world.database.watch.start(share=False)
    yield world.database.watch
    world.database.watch.stop()


def connection_of(db: Both) -> Any:
    """Return SQLAlchemy's plain connection."""
    session: Any = db.real.session
    return getattr(session, "sync_session", session).connection()


def line(watch: Any, place: int = 0) -> str:
    """Return the line of a record, without what a slow machine adds to it."""
    return str(watch.recent()[place]).partition("; idle in its transaction")[0]


def many(db: Both) -> None:
    """Send many at once by the ORM."""
    db.session.execute(core_insert(Item), NAMES)


def many_of_core(db: Both) -> None:
    """Send many at once on the connection."""
    connection_of(db).execute(core_insert(Item.__table__), NAMES)


def many_of_text(db: Both) -> None:
    """Send many at once, as text."""
    db.session.execute(text("INSERT INTO item (name) VALUES (:name)"), NAMES)


@scopes
@pytest.mark.parametrize("send", [many, many_of_core, many_of_text])
def test_what_is_sent_many_times_at_once_is_written(world: World, watch: Any, send: Story) -> None:
    """A driver may tell nothing of how many rows that were."""
    world.play(lambda db: world.inside(db, send))
    assert world.items() == ["a", "b", "c"]
    assert line(watch) == "committed; 3 INSERT into item stored"


@scopes
def test_a_savepoint_of_the_connection_is_one(world: World, watch: Any) -> None:
    """Nobody but its statements tells of it."""

    def body(db: Both) -> None:
        insert(db, "a")
        undone = connection_of(db).begin_nested()
        insert(db, "b")
        undone.rollback()
        with connection_of(db).begin_nested(), db.atomic():
            insert(db, "c")

    world.play(lambda db: world.inside(db, body))
    (record,) = watch.recent()
    assert world.items() == ["a", "c"]
    assert record.stored == (("INSERT into item", 2),)
    assert record.not_stored == (("INSERT into item", 1),)
    assert " was rolled back, ROLLBACK TO SAVEPOINT sa_savepoint_1 at tests/" in line(watch)


ENDINGS: dict[str, Callable[[Any], None]] = {
    "commit": lambda connection: connection.commit(),
    "rollback": lambda connection: connection.rollback(),
}


@scopes
@pytest.mark.parametrize("goes_on", ["well", "by an error", "with a statement"])
@pytest.mark.parametrize("how", ENDINGS)
def test_what_the_connection_has_ended_nobody_knows(
    world: World, watch: Any, how: str, goes_on: str
) -> None:
    """It is never said to be rolled back: it may be stored."""

    def body(db: Both) -> None:
        insert(db, "a")
        ENDINGS[how](connection_of(db))
        if goes_on == "by an error":
            raise Trouble
        if goes_on == "with a statement":
            db.execute(text("INSERT INTO item (name) VALUES ('b')"))

    with suppress(TransactionEndedOutside, Trouble):
        world.play(lambda db: world.inside(db, body))
    assert world.items() == (["a"] if how == "commit" else [])
    assert line(watch) == f"outcome unknown, {OUTSIDE}; 1 INSERT into item may not be stored"
    assert world.database.stats()["outcomes_unknown"] == 1


@pytest.mark.worlds(drivers=MYSQL.__contains__, places=["scope"])
@pytest.mark.parametrize("name", ["made", "item"])
def test_what_the_server_has_committed_by_itself_is_stored(
    world: World, watch: Any, name: str
) -> None:
    """Its statement may have failed: what was done before is stored all the same."""

    def body(db: Both) -> None:
        insert(db, "a")
        with suppress(Exception):
            db.execute(text(f"CREATE TABLE {name} (id INTEGER)"))

    with suppress(Exception):
        world.play(lambda db: world.inside(db, body))
    assert world.items() == ["a"]
    (record,) = watch.recent()
    assert ("INSERT into item", 1) in record.stored
    assert (record.outcome, record.not_stored) == ("committed", ())


@scopes
@pytest.mark.parametrize("keep", [True, False])
def test_a_table_that_is_made_is_told(world: World, watch: Any, keep: bool) -> None:
    """A change of the schema is no reading; MySQL's servers keep it at once."""

    def body(db: Both) -> None:
        db.execute(text("CREATE TABLE made (id INTEGER)"))
        if not keep:
            db.set_rollback(True)

    world.play(lambda db: world.inside(db, body))
    (record,) = watch.recent()
    is_kept = keep or world.driver in MYSQL
    assert (record.stored if is_kept else record.not_stored) == (("CREATE TABLE made", 1),)
    assert not (record.not_stored if is_kept else record.stored)
    assert record.outcome == ("committed" if keep else "rolled back")


@pytest.mark.worlds(drivers=lambda each: not is_sqlite(each), places=["scope"])
def test_a_table_that_is_emptied_is_told(world: World, watch: Any) -> None:
    """TRUNCATE tells no rows, and is no reading."""
    world.play(lambda db: world.inside(db, lambda db: db.execute(text("TRUNCATE TABLE child"))))
    assert line(watch) == "committed; 1 TRUNCATE child stored"


@scopes
def test_what_was_done_once_before_is_only_read(world: World, watch: Any) -> None:
    """Its key is looked for by an INSERT, and ROLLBACK undoes that: nothing was lost."""

    def body(db: Both) -> None:
        db.ensure_schema(metadata)
        for _ in range(2):
            with db.once("key") as done:
                if not done.done:
                    insert(db, "a")

    world.play(body)
    assert line(watch).startswith("read; ")
    assert line(watch, 1) == "committed; 1 INSERT into dbscope_once and 1 INSERT into item stored"


@scopes
def test_what_fails_before_commit_is_the_reason(world: World, watch: Any) -> None:
    """The scope itself had ended well."""

    def fail() -> None:
        raise Trouble

    def body(db: Both) -> None:
        insert(db, "a")
        db.before_commit(fail)

    with suppress(Trouble):
        world.play(lambda db: world.inside(db, body))
    assert line(watch).startswith("rolled back, Trouble raised at tests/watch/test_truth.py:")
    assert line(watch).endswith("; 1 INSERT into item not stored")


@pytest.mark.worlds(drivers=lambda each: not is_sqlite(each), places=["scope"])
def test_a_connection_that_was_gone_before_commit_is_no_failed_flush(
    world: World, watch: Any
) -> None:
    """There was no flush."""

    def body(db: Both) -> None:
        insert(db, "a")
        kill(world, db)

    with suppress(DatabaseUnavailable):
        world.play(lambda db: world.inside(db, body))
    told = "COMMIT failed, before it was sent: DatabaseUnavailable"
    assert line(watch) == f"{told}; 1 INSERT into item not stored"


@scopes
def test_the_line_of_an_error_is_never_one_of_a_driver(world: World, watch: Any) -> None:
    """Compiled drivers have lines, too, in files whose names do not say where they are."""

    def body(db: Both) -> None:
        db.execute(text("SELECT nothing FROM nowhere"))

    with suppress(Exception):
        world.play(lambda db: world.inside(db, body))
    assert " raised at tests/" in line(watch)


@pytest.mark.worlds(drivers=lambda each: not is_sqlite(each), places=["scope"])
def test_a_query_that_locks_rows_is_no_update(world: World, watch: Any) -> None:
    """`FOR UPDATE` in a query of WITH is what queues in a table are made with."""
    locked = select(Item.id).with_for_update(skip_locked=True).cte("locked")
    body: Story = lambda db: db.execute(select(locked.c.id)).all()  # noqa: E731
    world.play(lambda db: world.inside(db, lambda db: insert(db, "a")))
    world.play(lambda db: world.inside(db, body))
    assert line(watch) == "read; 1 statement"


KINDS = {
    "WITH a AS (SELECT 1 FROM t FOR UPDATE SKIP LOCKED) SELECT * FROM a": ("SELECT", "t"),
    "WITH a AS (SELECT 1 FROM t FOR NO KEY UPDATE) DELETE FROM u USING a": ("DELETE", "u"),
    "WITH a AS (SELECT 1 FROM t FOR UPDATE) /* b */ UPDATE u SET x = 1": ("UPDATE", "u"),
    "WITH a AS (DELETE FROM t RETURNING x) SELECT * FROM a": ("DELETE", "t"),
    'WITH a AS (SELECT "update" FROM t) INSERT INTO u SELECT * FROM a': ("INSERT", "u"),
    "MERGE INTO u USING t ON true WHEN MATCHED THEN DELETE": ("MERGE", "u"),
    "SET STATEMENT max_statement_time = 1 FOR INSERT INTO u VALUES (1)": ("INSERT", "u"),
    "SET STATEMENT max_statement_time = 1 FOR SELECT x FROM u": ("SELECT", "u"),
    "SET x = 1": ("SET", None),
    "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON t (x)": ("CREATE", "INDEX i"),
    "CREATE OR REPLACE VIEW v AS SELECT 1": ("CREATE", "VIEW v"),
    "DROP TABLE IF EXISTS `t`": ("DROP", "TABLE t"),
    "ALTER TABLE ONLY s.t ADD x INTEGER": ("ALTER", "TABLE s.t"),
    "CREATE TEMPORARY TABLE t (x INTEGER)": ("CREATE", None),
    "TRUNCATE t": ("TRUNCATE", "t"),
}


@pytest.mark.parametrize("sql", KINDS)
def test_a_statement_is_told_by_what_it_does(sql: str) -> None:
    """Its first words alone do not say it."""
    told = parse(sql)
    assert (told.kind, told.table) == KINDS[sql]
