"""SQLite changes a table by dropping it: what refers to it, listens to it or looks at it stays."""

from __future__ import annotations

import textwrap

import pytest
import sqlalchemy as sa

from dbscope import MigrationError
from tests.migrate.project import ON_SQLITE, Project

pytestmark = pytest.mark.worlds(drivers=ON_SQLITE)
PARENTS = """
op.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT)")
op.execute("CREATE TABLE child (parent_id INTEGER REFERENCES parent ON DELETE CASCADE)")
op.execute("INSERT INTO parent VALUES (1, 'a')")
op.execute("INSERT INTO child VALUES (1)")
"""
BATCH = """
with op.batch_alter_table("parent") as batch:
    batch.alter_column("name", nullable=False)
"""


# -- foreign keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        BATCH,
        """
        op.execute('CREATE TABLE n (id INTEGER PRIMARY KEY, name TEXT)')
        op.execute('INSERT INTO n SELECT * FROM parent')
        op.execute('DROP TABLE IF EXISTS "parent"')
        op.rename_table("n", "parent")
        """,
        """
        op.add_column("parent", sa.Column("more", sa.Integer))
        try:
            op.drop_table("parent")
        except Exception:  # it may catch what it likes
            pass
        op.execute('CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT)')
        op.execute("INSERT INTO parent VALUES (1, 'b')")
        """,
    ],
)
def test_a_data_revision_may_change_a_table(project: Project, change: str):
    """What refers to it stays, as in a revision of schema: by what is done, not by the branch."""
    project.write("parents", PARENTS)
    before = "session().execute(sa.text(\"INSERT INTO parent VALUES (2, 'b')\"))\n"
    text = before + textwrap.dedent(change)
    text += "\nsession().execute(sa.text('INSERT INTO child VALUES (1)'))"
    project.write("change", text, branch="data", depends_on="parents")
    project.migrations.upgrade()
    assert project.column("SELECT parent_id FROM child") == [1, 1]
    assert project.column("SELECT count(*) FROM parent WHERE id = 1") == [1]
    assert project.stored() == ["change"]


def test_a_data_revision_that_changes_a_table_may_leave_nothing_dangling(project: Project):
    """Its foreign keys were off then, so they are looked at when it ends; and it is rolled back."""
    project.write("parents", PARENTS)
    change = f'op.execute("DELETE FROM parent")\n{BATCH}'
    project.write("change", change, branch="data", depends_on="parents")
    with pytest.raises(MigrationError, match="references to rows that are not there: 1 in child"):
        project.migrations.upgrade()
    assert project.column("SELECT count(*) FROM parent") == [1]
    assert project.stored() == ["parents"]


def test_a_scratch_table_takes_no_foreign_keys_away(project: Project):
    """Nothing refers to it, so ON DELETE CASCADE goes on doing what it says, before and after."""
    project.write("parents", PARENTS)
    change = """
    op.execute("CREATE TABLE scratch (id INTEGER)")
    op.execute("DELETE FROM parent")
    op.execute("DROP TABLE scratch")
    """
    project.write("change", change, branch="data", depends_on="parents")
    project.write(
        "after", 'op.execute("INSERT INTO parent VALUES (3, NULL)")', branch="data", down="change"
    )
    project.migrations.upgrade()
    assert project.column("SELECT count(*) FROM child") == [0]


# -- triggers and views ----------------------------------------------------------------------------

TRIGGERS = (
    PARENTS
    + """
op.execute("CREATE TABLE log (what TEXT)")
op.execute("CREATE VIEW names AS SELECT name FROM parent")
op.execute(\"\"\"CREATE TRIGGER "it's" AFTER UPDATE ON Parent
  BEGIN INSERT INTO log VALUES (new.name); END\"\"\")
op.execute("CREATE TRIGGER other AFTER INSERT ON child"
  " BEGIN INSERT INTO log SELECT name FROM parent; END")
"""
)


@pytest.mark.parametrize("branch", ["schema", "data"])
def test_batch_mode_keeps_triggers_and_views(project: Project, branch: str):
    """Those of the table, which SQLite drops with it, and those of others that mention it."""
    project.write("parents", TRIGGERS)
    if branch == "data":
        project.write("change", BATCH, branch="data", depends_on="parents")
    else:
        project.write("change", BATCH, down="parents")
    project.migrations.upgrade()
    project.execute("UPDATE parent SET name = 'b'")
    assert project.column("SELECT what FROM log") == ["b"]
    assert project.column("SELECT name FROM names") == ["b"]
    assert project.column("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'") == [2]


def test_a_trigger_that_no_longer_fits_fails_the_revision(project: Project):
    """It would fail every later UPDATE; it is named, with what to do."""
    project.write("parents", TRIGGERS)
    drop = 'op.execute("DROP VIEW names")\nwith op.batch_alter_table("parent") as batch:\n    {}'
    change = drop.format('batch.drop_column("name")')
    project.write("change", change, down="parents")
    with pytest.raises(
        MigrationError, match=r"triggers of table parent \(it's\) do not fit .*name"
    ):
        project.migrations.upgrade()
    assert project.stored() == ["parents"]
    assert project.column("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'") == [2]


def test_a_table_that_is_dropped_takes_its_triggers_with_it(project: Project):
    """Only batch mode puts another in its place; and renaming does what it did."""
    project.write("parents", TRIGGERS)
    change = 'op.execute("DROP TABLE child")\nop.rename_table("parent", "elder")'
    project.write("change", change, down="parents")
    project.migrations.upgrade()
    assert project.column("SELECT name FROM sqlite_master WHERE type = 'trigger'") == ["it's"]
    assert project.column("SELECT name FROM names") == ["a"]


# -- virtual tables --------------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [False, True])
def test_autogenerate_leaves_virtual_tables_alone(project: Project, mapped: bool):
    """FTS5, FTS4 and R*Tree keep what they know in tables of their own, which nobody wrote."""
    metadata: sa.MetaData = project.application.Base.metadata
    metadata.clear()
    project.write(
        "search",
        """
        op.execute("CREATE VIRTUAL TABLE notes USING fts5(body)")
        op.execute("CREATE VIRTUAL TABLE old USING fts4(body)")
        op.execute("CREATE VIRTUAL TABLE place USING rtree(id, x, y)")
        op.execute("CREATE TABLE notes_more (id INTEGER PRIMARY KEY)")
        """,
    )
    project.migrations.upgrade()
    if mapped:
        sa.Table("notes", metadata, sa.Column("rowid", sa.Integer, primary_key=True))
    made = project.migrations.revision("more", autogenerate=True)
    assert made is not None
    text = made.path.read_text().partition("def upgrade")[2].partition("def downgrade")[0]
    assert text.count("op.drop_table") == 1
    assert "op.drop_table('notes_more')" in text
    assert "create_table" not in text
    project.migrations.upgrade()
    assert project.migrations.revision("none", autogenerate=True) is None


def test_what_an_application_leaves_out_stays_out(project: Project):
    """Its own `include_name` and `include_object` are asked as well."""
    env = project.root / "migrations" / "env.py"
    options = (
        "include_name=lambda name, *_: name != 'a', include_object=lambda _, name, *__: name != 'b'"
    )
    env.write_text(env.read_text().replace("Base.metadata)", f"Base.metadata, {options})"))
    project.application.Base.metadata.clear()
    tables = 'op.execute("CREATE TABLE a (i)")\nop.execute("CREATE TABLE b (i)")'
    project.write("two", tables)
    project.migrations.upgrade()
    assert project.migrations.revision("none", autogenerate=True) is None
