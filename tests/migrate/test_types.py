"""Types in revisions: an upgrade makes what `create_all` makes, and nothing is left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from dbscope import MigrationError
from tests.migrate import decorators as ours
from tests.migrate.project import Project
from tests.migrate.type_matrix import OF

EXTENSIONS = ("CITEXT", "HSTORE")
on_each = pytest.mark.worlds(drivers=["sqlite3", "psycopg sync", "pymysql"])
SHAPE = {  # what the server says of all columns
    "sqlite": """
        SELECT m.name, c.name, c.type, c."notnull", m.sql LIKE '%COLLATE%', m.sql LIKE '%CHECK%'
        FROM sqlite_master m, pragma_table_info(m.name) c""",
    "postgresql": """
        SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attcollation,
          attndims, (SELECT string_agg(pg_get_constraintdef(o.oid), ';' ORDER BY conname)
                     FROM pg_constraint o WHERE conrelid = attrelid AND contype = 'c'),
          (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum
           WHERE enumtypid IN (atttypid, (SELECT typelem FROM pg_type t WHERE t.oid = atttypid)))
        FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0""",
    "mysql": """
        SELECT c.table_name, column_name, column_type, is_nullable, character_set_name,
          collation_name, extra, check_clause
        FROM information_schema.columns c LEFT JOIN information_schema.check_constraints k
          ON (constraint_schema, k.table_name) = (table_schema, c.table_name)
          AND check_clause LIKE concat('%`', column_name, '`%')
        WHERE table_schema = database()""",
}


@contextmanager
def connected(project: Project) -> Iterator[sa.Connection]:
    engine = sa.create_engine(project.url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def shape(connection: sa.Connection) -> dict[str, set[Any]]:
    """Return what the server says of each table."""
    tables: dict[str, set[Any]] = {}
    for table, *rest in connection.exec_driver_sql(
        SHAPE[connection.dialect.name].replace("%", "%%")
    ):
        tables.setdefault(table, set()).add(tuple(rest))
    tables.pop("alembic_version", None)
    return tables


def extensions(project: Project) -> set[str]:
    """Make the extensions of PostgreSQL that have types, if they are installed there."""
    if not project.url.startswith("postgresql"):
        return set()
    found = set(project.column("SELECT upper(name) FROM pg_available_extensions")) & set(EXTENSIONS)
    for name in found:
        project.execute(f"CREATE EXTENSION {name}")
    return found


def written(project: Project) -> str:
    """Return the operations that autogenerate writes into a file, if it writes one."""
    made = project.migrations.revision("more", autogenerate=True)
    return "" if made is None else made.path.read_text().partition("def upgrade")[2]


def model(project: Project, kind: str) -> dict[str, sa.Table]:
    """Give the application a table for each case."""
    metadata: sa.MetaData = project.application.Base.metadata
    metadata.clear()
    tables = {}
    missing = set(EXTENSIONS if kind == "postgresql" else ()) - extensions(project)
    for number, (name, (make, _)) in enumerate(OF[kind].items()):
        if name.partition(" ")[0] in missing:
            continue
        columns = sa.Column("id", sa.Integer, primary_key=True), sa.Column("c", make())
        tables[name] = sa.Table(f"t{number}", metadata, *columns)
    return tables


@on_each
@pytest.mark.filterwarnings("ignore:Did not recognize type 'jsonpath'")
def test_an_upgrade_makes_what_create_all_makes(project: Project, record_property: Any):
    """For every type: the same schema, rows go in and come out, and no next file."""
    kind = sa.make_url(project.url).get_backend_name()
    tables = model(project, kind)
    record_property("cases", len(tables))
    metadata = project.application.Base.metadata
    with connected(project) as connection:
        metadata.create_all(connection)
        wanted = shape(connection)
        assert len(wanted) == len(tables)
    assert written(project) == ""
    with connected(project) as connection:
        metadata.drop_all(connection)
    made = project.migrations.revision("tables", autogenerate=True)
    assert made is not None
    imported = re.findall(r"\n(?:import|from) (\S*decorators)", made.path.read_text())
    assert imported == ["tests.migrate.decorators"]  # once, for Point, which has SQL of its own
    assert set(re.findall(r"decorators\.\w+", made.path.read_text())) == {"decorators.Point"}
    project.migrations.upgrade()
    with connected(project) as connection:
        got = shape(connection)
        assert {name: got[name] for name in got if got[name] != wanted[name]} == {}
        assert wrong_rows(connection, tables, kind) == {}
    assert written(project) == ""
    project.migrations.downgrade("base")
    project.migrations.upgrade()


def wrong_rows(connection: sa.Connection, tables: dict[str, sa.Table], kind: str) -> dict[str, Any]:
    """Put a value into each table, and return those that come out as others."""
    wrong = {}
    for name, table in tables.items():
        value = OF[kind][name][1]
        connection.execute(table.insert(), {"id": 1, "c": value})
        found = connection.execute(sa.select(table.c.c)).scalar_one()
        if found != value:
            wrong[name] = (value, found)
    return wrong


# -- decorators ------------------------------------------------------------------------------------


def table(project: Project, name: str, *columns: Any) -> sa.Table:
    """Give the application a table, or another one in its place."""
    metadata: sa.MetaData = project.application.Base.metadata
    if name in metadata.tables:
        metadata.remove(metadata.tables[name])
    return sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True), *columns)


def bare(project: Project) -> None:
    """Take away the tables that the application has for other tests."""
    project.application.Base.metadata.clear()


@on_each
def test_a_decorator_that_stores_something_else_is_a_change(project: Project):
    """Its arguments are compared as the database shows them; the next time there is nothing."""
    bare(project)
    table(project, "a", sa.Column("c", ours.CaseInsensitive(10)), sa.Column("d", ours.IPAddress))
    assert written(project)
    project.migrations.upgrade()
    table(project, "a", sa.Column("c", ours.CaseInsensitive(30)), sa.Column("d", ours.IPAddress))
    text = written(project)
    assert "existing_type" in text
    assert "length=30" in text
    assert "'d'" not in text
    project.migrations.upgrade()
    assert written(project) == ""


@on_each
def test_what_is_written_for_a_type_runs_when_its_class_is_gone(project: Project):
    """A revision is a record of what is stored; on another database it makes what belongs there."""
    bare(project)
    table(project, "a", sa.Column("c", ours.GUID))
    text = written(project)
    assert "sa.CHAR(length=36).with_variant(" in text
    assert "'postgresql')" in text
    assert "GUID" not in text


@pytest.mark.worlds(drivers=["sqlite3"])
def test_a_type_that_cannot_be_written_is_refused_in_a_sentence(project: Project):
    """A class inside a function has no name that a file could import."""

    class Hidden(ours.Point):
        pass

    bare(project)
    table(project, "a", sa.Column("c", Hidden()))
    with pytest.raises(MigrationError, match="cannot be written into a revision"):
        project.migrations.revision("a", autogenerate=True)


# -- enum types of PostgreSQL ----------------------------------------------------------------------

on_postgresql = pytest.mark.worlds(drivers=["psycopg sync", "asyncpg"])
ENUMS = "SELECT typname FROM pg_type WHERE typtype IN ('e', 'd') AND typname IN ('s', 'u', 'pos')"


@on_postgresql
def test_a_downgrade_drops_the_types_that_its_upgrade_made(project: Project):
    """And no others: a type that another table has stays, and is not made again."""
    bare(project)
    state = sa.Enum("a", "b", name="s")
    table(project, "one", sa.Column("c", state), sa.Column("d", sa.ARRAY(state)))
    assert written(project).count("DROP TYPE s") == 1
    project.migrations.upgrade()
    table(project, "two", sa.Column("c", state))
    assert "create_type=False" in (text := written(project))
    assert "DROP TYPE" not in text
    project.migrations.upgrade()
    assert written(project) == ""
    project.migrations.downgrade("schema@-1")
    assert project.column(ENUMS) == ["s"]
    project.migrations.downgrade("base")
    assert project.column(ENUMS) == []
    project.migrations.upgrade()
    assert {"one", "two"} <= project.tables()


@on_postgresql
def test_a_column_that_is_added_brings_its_type(project: Project):
    """Alembic adds the column only; a type whose last column goes is dropped, and comes back."""
    bare(project)
    table(project, "one")
    assert written(project)
    project.migrations.upgrade()
    positive = postgresql.DOMAIN("pos", sa.Integer(), check="VALUE > 0")
    table(project, "one", sa.Column("c", sa.Enum("a", name="u")), sa.Column("d", positive))
    assert "CREATE TYPE u AS ENUM" in written(project)
    project.migrations.upgrade()
    assert sorted(project.column(ENUMS)) == ["pos", "u"]
    table(project, "one")
    assert "DROP TYPE u" in written(project)
    project.migrations.upgrade()
    assert project.column(ENUMS) == []
    for _ in range(3):
        project.migrations.downgrade("schema@-1")
    project.migrations.upgrade()
    assert written(project) == ""


@pytest.mark.worlds(drivers=["sqlite3"])
def test_enum_types_are_nothing_to_other_databases(project: Project):
    """What is written for PostgreSQL runs there only."""
    bare(project)
    table(project, "one", sa.Column("c", sa.Enum("a", name="s")))
    assert "DROP TYPE s" in written(project)
    project.migrations.upgrade()
    project.migrations.downgrade("base")
    assert "DROP TYPE" not in project.migrations.sql()
