"""What is written: the folders, revisions by hand and by comparison, merges, and SQL."""

from __future__ import annotations

import sqlite3
import tomllib
from pathlib import Path

import pytest

from dbscope import ConfigurationError, MigrationError
from dbscope.migrate import Migrations
from tests.migrate.project import ITEMS, ON_SQLITE, Project

anywhere = pytest.mark.worlds(drivers=["sqlite3"])
on_sqlite = pytest.mark.worlds(drivers=ON_SQLITE)


def files(project: Project) -> list[str]:
    return sorted(path.name for path in (project.root / "migrations").glob("*/*.py"))


# -- init ------------------------------------------------------------------------------------------


@anywhere
def test_env_is_three_lines(project: Project):
    """It imports what it is told, and calls `run`."""
    env = (project.root / "migrations" / "env.py").read_text()
    assert [line for line in env.splitlines() if line] == [
        "from dbscope.migrate import run",
        f"from {project.module} import Base, db",
        "run(db, Base.metadata)",
    ]


@anywhere
def test_settings_go_into_a_pyproject_if_there_is_one(bare_project: Project):
    """What it has stays; the settings work as those of an alembic.ini do."""
    toml = bare_project.root / "pyproject.toml"
    toml.write_text("[project]\nname = 'shop'\n")
    written = Migrations.init(
        "server/db/migrations",
        database=f"{bare_project.module}:db",
        metadata=f"{bare_project.module}:Base.metadata",
        root=bare_project.root,
    )
    assert written[-1] == toml
    assert set(tomllib.loads(toml.read_text())) == {"project", "tool"}
    assert not (bare_project.root / "alembic.ini").exists()
    migrations = Migrations(bare_project.db, toml)
    made = migrations.revision("first", autogenerate=True)
    assert made is not None
    assert made.path.parent == bare_project.root / "server" / "db" / "migrations" / "schema"
    assert [each.id for each in Migrations(bare_project.db).upgrade()] == [made.id]


@anywhere
def test_a_second_init_is_refused(project: Project):
    """It overwrites nothing: neither settings nor a folder with files."""
    with pytest.raises(ConfigurationError, match=r"for Alembic already, by alembic\.ini: .* anew"):
        project.init()
    project.config.unlink()
    with pytest.raises(ConfigurationError, match="is not empty; name another folder"):
        project.init()
    (project.root / "pyproject.toml").write_text("[tool.alembic]\n")
    with pytest.raises(ConfigurationError, match=r"by \[tool\.alembic\] in pyproject\.toml: "):
        project.init()


@anywhere
def test_a_target_without_a_colon_is_refused(bare_project: Project):
    """Before anything is written."""
    with pytest.raises(ConfigurationError, match=r"'shop.db' is not of the form 'module:name'"):
        Migrations.init(database="shop.db", metadata="shop:metadata", root=bare_project.root)
    assert not (bare_project.root / "migrations").exists()


@anywhere
@pytest.mark.parametrize("name", ["50%", "%s", "a%20b", "%(here)s", "%%"])
@pytest.mark.parametrize("toml", [False, True])
def test_a_folder_may_have_a_percent_sign_in_its_name(bare_project: Project, name: str, toml: bool):
    """That of the project, and that of the migrations; the settings write it in their way."""
    root = bare_project.root / name
    root.mkdir()
    if toml:
        (root / "pyproject.toml").touch()
    module = bare_project.module
    written = Migrations.init(
        f"migrations{name}", database=f"{module}:db", metadata=f"{module}:Base.metadata", root=root
    )
    migrations = Migrations(bare_project.db, written[-1])
    made = migrations.revision("tables", autogenerate=True)
    assert made is not None
    assert made.path.parent == root / f"migrations{name}" / "schema"
    assert [each.id for each in migrations.upgrade()] == [made.id]
    assert migrations.status().is_current
    assert "CREATE TABLE item" in migrations.sql()


@anywhere
def test_a_module_that_is_run_is_the_one_that_env_imports(project: Project):
    """Python imports it a second time, by its name; it is the same line that makes the database."""
    project.write("items", ITEMS)
    script = project.root / f"{project.module}.py"
    with script.open("a") as file:
        file.write("\n\nif __name__ == '__main__':\n    print(len(Migrations(db).upgrade()))\n")
    done = project.python(script.name)
    assert (done.stdout, project.stored()) == ("1\n", ["items"]), done.stderr


# -- revision --------------------------------------------------------------------------------------


@anywhere
def test_a_revision_is_written_into_the_folder_of_its_branch(project: Project):
    """The first of a branch makes its label; data depends on the newest of schema."""
    first = project.migrations.revision("first tables")
    second = project.migrations.revision("second tables")
    seed = project.migrations.revision("first rows", "data")
    rows = project.migrations.revision("more rows", "data", depends_on=())
    assert first is not None
    assert second is not None
    assert seed is not None
    assert rows is not None
    assert first.path.name.endswith(f"_{first.id}_first_tables.py")
    assert [Path(each.path).parent.name for each in (first, second, seed, rows)] == [
        "schema",
        "schema",
        "data",
        "data",
    ]
    assert (first.branches, seed.branches) == (("schema",), ("data",))
    assert (second.down, rows.down) == ((first.id,), (seed.id,))
    assert (seed.depends_on, rows.depends_on) == ((second.id,), ())
    assert str(first) == f"{first.id} (schema) first tables"
    done = [each.id for each in project.migrations.upgrade()]
    assert done.index(second.id) < done.index(seed.id)


def test_autogenerate_writes_what_the_database_lacks_and_then_nothing(project: Project):
    """A second time there is nothing to write, so no file is written."""
    made = project.migrations.revision("tables", autogenerate=True)
    assert made is not None
    assert "uq_item_name" in made.path.read_text()  # by the naming convention
    project.migrations.upgrade()
    assert "item" in project.tables()
    assert project.migrations.revision("nothing", autogenerate=True) is None
    assert len(files(project)) == 1


@anywhere
def test_autogenerate_needs_a_database_that_is_up_to_date(project: Project):
    """Else it would write once more what is pending."""
    project.write("items", ITEMS)
    with pytest.raises(MigrationError, match=r"is behind: items .*dbscope upgrade"):
        project.migrations.revision("more", autogenerate=True)


@on_sqlite
def test_autogenerate_writes_batch_mode_on_sqlite(project: Project):
    """What it writes runs: SQLite itself cannot change a column."""
    project.write("items", ITEMS.replace(", nullable=False", ""))
    project.migrations.upgrade()
    made = project.migrations.revision("not null", autogenerate=True)
    assert made is not None
    assert "batch_alter_table" in made.path.read_text()
    project.migrations.upgrade()
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        project.execute("INSERT INTO item (name) VALUES (NULL)")


def test_a_function_comes_before_the_first_revision(project: Project):
    """Whatever they need: a schema, an extension. It is committed, and not called for nothing."""
    env = project.root / "migrations" / "env.py"
    call = "run(db, Base.metadata, before=before)"
    text = env.read_text().replace("run(db, Base.metadata)", call)
    made = (
        "def before(connection):\n    connection.exec_driver_sql('CREATE TABLE earlier (id INT)')\n"
    )
    env.write_text(text.replace(call, f"\n\n{made}\n\n{call}"))
    project.write("items", 'op.execute("INSERT INTO earlier VALUES (1)")')
    project.migrations.upgrade()
    project.migrations.upgrade()
    assert project.column("SELECT id FROM earlier") == [1]


# -- merge, and looking at the files ---------------------------------------------------------------


@anywhere
def test_merge_joins_the_heads_of_one_branch(project: Project):
    """Two people have each added a revision; the other branch is left alone."""
    project.write_shop()
    with pytest.raises(MigrationError, match="nothing to merge: schema has 1 head"):
        project.migrations.merge()
    project.write("mine", "pass", down="items")
    project.write("yours", "pass", down="items")
    assert sorted(each.id for each in project.migrations.branches()["schema"]) == ["mine", "yours"]
    merged = project.migrations.merge("both")
    assert sorted(merged.down) == ["mine", "yours"]
    assert [each.id for each in project.migrations.branches()["schema"]] == [merged.id]
    assert {each.id for each in project.migrations.heads()} == {merged.id, "seed"}
    project.migrations.upgrade()
    assert project.migrations.status().is_current


def test_a_step_back_at_a_merge_is_the_merge(project: Project):
    """Behind it are two ways, so more steps than that have to be told by name."""
    project.write("items", 'op.execute("CREATE TABLE item (id INT)")')
    for name in ("mine", "yours"):
        project.write(name, "pass", down="items")
    project.write("both", "pass", down=("mine", "yours"))
    project.migrations.upgrade()
    with pytest.raises(MigrationError, match="schema@-2 leads past both"):
        project.migrations.downgrade("schema@-2")
    assert [each.id for each in project.migrations.downgrade("schema@-1")] == ["both"]
    assert {each.id for each in project.migrations.status().current} == {"mine", "yours"}


def test_a_step_back_from_nothing_is_refused(project: Project):
    """In a sentence of ours: Alembic's is an assertion."""
    project.write("items", "pass")
    with pytest.raises(MigrationError, match=r"schema@-1: no revision was run"):
        project.migrations.downgrade("schema@-1")


@anywhere
def test_history_is_newest_first(project: Project):
    """Each with what its file tells."""
    project.write_shop()
    seed, items = project.migrations.history()
    assert (seed.id, seed.message, seed.depends_on) == ("seed", "about seed", ("items",))
    assert (items.id, items.branches, items.down, items.is_head) == ("items", ("schema",), (), True)


# -- SQL -------------------------------------------------------------------------------------------


def test_sql_is_written_without_a_connection(project: Project):
    """For somebody else to run; a downgrade says from where."""
    project.write("items", ITEMS, downgrade='op.drop_table("item")')
    upgrade = project.migrations.sql()
    assert "CREATE TABLE item" in upgrade
    assert "INSERT INTO alembic_version" in upgrade
    assert "DROP TABLE item" in project.migrations.sql("items:base", downgrade=True)
    assert not (project.root / "shop.db").exists()
    if "sqlite" in project.url:
        with sqlite3.connect(project.root / "shop.db") as connection:
            connection.executescript(upgrade)
        connection.close()
        assert project.stored() == ["items"]
