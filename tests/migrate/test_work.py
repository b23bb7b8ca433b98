"""What happens around one revision: its transaction, its session, its foreign keys, its failure."""

from __future__ import annotations

import re
import sqlite3
import traceback
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import make_url

from dbscope import Database, MigrationError
from dbscope.migrate import Migrations, session
from tests.migrate.project import ITEMS, ON_POSTGRESQL, ON_SQLITE, Project
from tests.migrate.switch import FOREIGN_KEYS

on_sqlite = pytest.mark.worlds(drivers=ON_SQLITE)
on_postgresql = pytest.mark.worlds(drivers=ON_POSTGRESQL)

HALF_WAY = """
op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
op.execute("INSERT INTO half (id) VALUES (1)")
op.execute("INSERT INTO nothing (id) VALUES (1)")
"""
WRONG = f"    {HALF_WAY.strip().splitlines()[-1]}"


def failure(call, *args) -> str:
    """Return what a MigrationError says, without what its class adds."""
    with pytest.raises(MigrationError) as caught:
        call(*args)
    return caught.value.what


# -- a failing revision ----------------------------------------------------------------------------


def test_a_revision_that_fails_half_way_leaves_nothing(project: Project):
    """Tables, rows and the version table are as before it; what came before it stays."""
    project.write("items", ITEMS)
    path = project.write("half", HALF_WAY, down="items")
    for _ in range(2):  # the second try finds no trace of the first
        told = failure(project.migrations.upgrade)
        where = f"migrations/schema/half.py:{path.read_text().splitlines().index(WRONG) + 1}"
        assert told.startswith(f"Revision half (about half) in {where} failed: ")
        assert "nothing" in told
        assert told.endswith("Stored now: items.")
        assert project.tables() == {"alembic_version", "item"}
        assert project.stored() == ["items"]
    path.write_text(path.read_text().replace("INTO nothing", "INTO half").replace("(1)", "(2)", 1))
    assert [each.id for each in project.migrations.upgrade()] == ["half"]
    assert sorted(project.column("SELECT id FROM half")) == [1, 2]


def test_a_data_revision_that_fails_half_way_leaves_nothing(project: Project):
    """Neither what it flushed, nor what it had only added."""
    project.write_shop()
    project.write(
        "more",
        """
        insert = sa.text("INSERT INTO item (name) VALUES (:name)")
        session().execute(insert, {"name": "b"})
        session().execute(insert, {"name": "a"})
        """,
        branch="data",
        down="seed",
    )
    assert "Stored now: seed." in failure(project.migrations.upgrade)
    assert project.column("SELECT name FROM item") == ["a"]
    assert project.stored() == ["seed"]


def test_the_message_has_no_values(project: Project):
    """What the database says in DETAIL is data, and may be anybody's."""
    project.write_shop()
    project.write(
        "more",
        "session().execute(sa.text(\"INSERT INTO item (name) VALUES ('a')\"))",
        branch="data",
        down="seed",
    )
    told = failure(project.migrations.upgrade)
    assert re.search(r"(?i)unique", told)
    assert "'a'" not in told
    assert "(a)" not in told
    assert "INSERT" not in told
    assert "<class" not in told


def test_an_error_of_the_revision_itself_is_told_with_its_place(project: Project):
    """And the traceback goes down to the line of the revision."""
    path = project.write("broken", "op.execute('SELECT 1')\nraise ValueError('no such thing')")
    with pytest.raises(MigrationError, match="ValueError: no such thing") as caught:
        project.migrations.upgrade()
    frames = traceback.extract_tb(caught.value.__cause__.__traceback__)
    assert any(frame.filename == str(path) for frame in frames)
    assert "Stored now: no revision." in caught.value.what


def test_a_downgrade_that_fails_leaves_the_revision(project: Project):
    """And says that it was the downgrade."""
    project.write("items", ITEMS, downgrade='op.drop_table("item")\nop.drop_table("nothing")')
    project.migrations.upgrade()
    told = failure(project.migrations.downgrade, "schema@base")
    assert told.startswith("The downgrade of revision items")
    assert (project.tables(), project.stored()) == ({"alembic_version", "item"}, ["items"])


@on_postgresql
def test_a_commit_that_fails_is_a_failed_revision(project: Project):
    """A deferred constraint speaks up only then."""
    project.write(
        "deferred",
        """
        op.execute("CREATE TABLE t (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        op.execute("INSERT INTO t VALUES (1), (1)")
        """,
    )
    told = failure(project.migrations.upgrade)
    assert told.startswith("Revision deferred")
    assert project.tables() == {"alembic_version"}
    assert project.stored() == []


@on_postgresql
def test_a_connection_that_is_lost_is_told(project: Project):
    """What is stored cannot be read by it, which is said rather than guessed."""
    project.write("killed", 'op.execute("SELECT pg_terminate_backend(pg_backend_pid())")')
    told = failure(project.migrations.upgrade)
    assert told.startswith("Revision killed")
    assert "could not be read" in told or "Stored now: no revision." in told
    assert project.stored() == []


# -- its transaction -------------------------------------------------------------------------------


def test_each_revision_is_a_transaction_of_its_own(project: Project):
    """The one that failed takes nothing from those before it, of whichever branch."""
    project.write_shop()
    project.write("half", HALF_WAY, down="items", depends_on="seed")
    failure(project.migrations.upgrade)
    assert [each.id for each in project.migrations.status().current] == ["seed", "items"]
    assert project.column("SELECT name FROM item") == ["a"]


def test_an_autocommit_block_is_alembics(project: Project):
    """What came before it is committed, as Alembic says; what comes after it is atomic again."""
    project.write(
        "blocks",
        """
        op.execute("CREATE TABLE before (i int)")
        with op.get_context().autocommit_block():
            op.execute("CREATE TABLE inside (i int)")
        op.execute("CREATE TABLE after (i int)")
        op.execute("INSERT INTO nothing VALUES (1)")
        """,
    )
    failure(project.migrations.upgrade)
    assert project.tables() == {"alembic_version", "before", "inside"}
    assert project.stored() == []


@on_postgresql
def test_an_index_can_be_made_concurrently(project: Project):
    """The lock is not waited for in a transaction, for which PostgreSQL would wait in turn."""
    project.write("items", ITEMS)
    project.write(
        "index",
        """
        with op.get_context().autocommit_block():
            op.execute("CREATE INDEX CONCURRENTLY ix ON item (name)")
        """,
        down="items",
    )
    project.migrations.upgrade()
    assert project.stored() == ["index"]


# -- waiting for others ----------------------------------------------------------------------------


@on_postgresql
def test_ddl_behind_an_idle_transaction_gives_up_and_says_so(project: Project):
    """Row 28: it waits for `ddl_timeout`, not for ever, with every later query behind it."""
    project.write("items", ITEMS)
    project.migrations.upgrade()
    project.write("price", 'op.add_column("item", sa.Column("price", sa.Integer))', down="items")
    url = make_url(project.url).set(drivername="postgresql").render_as_string(hide_password=False)
    hasty = Migrations(project.db, project.config, ddl_timeout=0.2)
    with psycopg.connect(url) as idle:
        idle.execute("SELECT * FROM item")
        told = failure(hasty.upgrade)
        assert "lock timeout" in told
        assert "Somebody's transaction holds a lock that it needs" in told
    assert project.stored() == ["items"]
    hasty.upgrade()


@on_sqlite
def test_a_writer_that_does_not_end_is_waited_for_and_told(project: Project):
    """SQLite has one writer; a revision is one from its BEGIN on."""
    project.write("items", ITEMS)
    hasty = Migrations(project.db, project.config, ddl_timeout=0.2)
    hasty.upgrade()
    project.write("more", "pass", down="items")
    writer = sqlite3.connect(project.root / "shop.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        assert "database is locked. Somebody's transaction" in failure(hasty.upgrade)
    finally:
        writer.close()
    hasty.upgrade()


# -- its session -----------------------------------------------------------------------------------


def test_the_session_is_flushed_and_committed_with_the_revision(project: Project):
    """Nothing need be called; a `commit()` of habit does no harm."""
    project.write("items", ITEMS)
    project.write(
        "seed",
        f"""
        from {project.module} import Item

        session().add(Item(name="a"))
        session().commit()
        session().add(Item(name="b"))
        assert session() is session()
        """,
        branch="data",
        depends_on="items",
    )
    project.write(
        "rename",
        f"""
        from {project.module} import Item

        for item in session().scalars(sa.select(Item)):
            item.name = item.name.upper()
        """,
        branch="data",
        down="seed",
    )
    project.migrations.upgrade()
    assert sorted(project.column("SELECT name FROM item")) == ["A", "B"]


def test_a_commit_inside_a_failing_revision_is_rolled_back(project: Project):
    """The transaction is the revision's, whatever its session says."""
    project.write("items", ITEMS)
    project.write(
        "seed",
        f"""
        from {project.module} import Item

        session().add(Item(name="a"))
        session().commit()
        raise ValueError
        """,
        branch="data",
        depends_on="items",
    )
    failure(project.migrations.upgrade)
    assert project.column("SELECT name FROM item") == []


def test_there_is_no_session_outside_a_revision(project: Project):
    """It says so; also after a revision that failed, or that was the last one."""
    project.write("items", ITEMS)
    project.migrations.upgrade()
    project.write("half", HALF_WAY, down="items")
    for _ in range(2):
        with pytest.raises(MigrationError, match="none is running"):
            session()
        failure(project.migrations.upgrade)


@pytest.mark.worlds(drivers=["sqlite3"])
def test_there_is_no_session_where_only_sql_is_written(project: Project):
    """A revision that reads cannot be written down before it has read."""
    project.write_shop()
    with pytest.raises(MigrationError, match=r"session\(\) needs a database"):
        project.migrations.sql()


# -- foreign keys of SQLite ------------------------------------------------------------------------

PARENTS = """
op.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT)")
op.execute("CREATE TABLE child (parent_id INTEGER REFERENCES parent ON DELETE CASCADE)")
op.execute("INSERT INTO parent VALUES (1, 'a')")
op.execute("INSERT INTO child VALUES (1)")
"""


@on_sqlite
def test_batch_mode_deletes_no_rows_of_other_tables(project: Project):
    """SQLite drops the old table, which would delete what refers to it by ON DELETE CASCADE."""
    project.write("parents", PARENTS)
    project.write(
        "not_null",
        """
        with op.batch_alter_table("parent") as batch:
            batch.alter_column("name", nullable=False)
        """,
        down="parents",
    )
    project.migrations.upgrade()
    assert project.column("SELECT parent_id FROM child") == [1]
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        project.execute("INSERT INTO parent VALUES (2, NULL)")


@on_sqlite
def test_a_schema_revision_may_not_leave_dangling_references(project: Project):
    """Foreign keys are off while it runs, so they are looked at when it ends."""
    project.write("parents", PARENTS)
    project.write("orphan", 'op.execute("DELETE FROM parent")', down="parents")
    told = failure(project.migrations.upgrade)
    assert "it leaves references to rows that are not there: 1 in child to parent" in told
    assert project.stored() == ["parents"]
    assert project.column("SELECT count(*) FROM parent") == [1]


@on_sqlite
def test_references_that_dangled_before_are_not_blamed_on_a_revision(project: Project):
    """Who adopts the library may have some, and needs revisions to get rid of them."""
    project.write("parents", PARENTS)
    project.migrations.upgrade()
    project.execute("INSERT INTO child VALUES (7)")  # this client does not enforce them
    project.write("later", 'op.execute("CREATE TABLE later (i int)")', down="parents")
    project.migrations.upgrade()
    assert project.stored() == ["later"]


@on_sqlite
def test_a_data_revision_has_foreign_keys(project: Project):
    """It changes rows, not tables, so ON DELETE CASCADE does what it says."""
    project.write("parents", PARENTS)
    project.write("delete", 'op.execute("DELETE FROM parent")', branch="data", depends_on="parents")
    project.migrations.upgrade()
    assert project.column("SELECT count(*) FROM child") == [0]


@on_sqlite
def test_a_deferred_foreign_key_fails_the_commit(project: Project):
    """And nothing of it stays, nor does the write lock."""
    project.write("parents", PARENTS.replace("CASCADE", "CASCADE DEFERRABLE INITIALLY DEFERRED"))
    project.write(
        "orphan", 'op.execute("INSERT INTO child VALUES (7)")', branch="data", depends_on="parents"
    )
    told = failure(project.migrations.upgrade)
    assert told.endswith("FOREIGN KEY constraint failed. Stored now: parents.")
    project.execute("INSERT INTO child VALUES (1)")


@on_sqlite
@pytest.mark.parametrize("broken", ["pass", "raise ValueError"])
def test_a_database_in_memory_enforces_foreign_keys_afterwards(project: Project, broken):
    """Whichever branch was last, and however it ended: it is the application's connection."""
    project.write("parents", f"{PARENTS}\n{broken}")
    db = Database("sqlite://")
    with suppress(MigrationError):
        Migrations(db, project.config).upgrade()
    with db.engine.connect() as connection:
        assert connection.scalar(FOREIGN_KEYS) == 1
    db.dispose()


@on_sqlite
def test_a_failed_commit_in_memory_leaves_no_transaction(project: Project):
    """Its one connection is the application's afterwards."""
    project.write("parents", PARENTS.replace("CASCADE", "CASCADE DEFERRABLE INITIALLY DEFERRED"))
    project.write(
        "orphan", 'op.execute("INSERT INTO child VALUES (7)")', branch="data", depends_on="parents"
    )
    db = Database("sqlite://")
    migrations = Migrations(db, project.config)
    assert "Stored now: parents." in failure(migrations.upgrade)
    assert [each.id for each in migrations.status().pending] == ["orphan"]
    with db.engine.connect() as connection:
        assert not connection.connection.driver_connection.in_transaction
    db.dispose()
