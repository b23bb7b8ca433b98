"""Alembic's own command, in the same tree."""

from __future__ import annotations

import pytest

from tests.migrate.project import ITEMS, Project

pytestmark = pytest.mark.timeout(150)  # each command is a process of its own
one_of_each = pytest.mark.worlds(drivers=["inline", "aiosqlite", "asyncpg"])
anywhere = pytest.mark.worlds(drivers=["inline"])


@one_of_each
def test_upgrade_current_check_and_downgrade(project: Project):
    """They do what they do elsewhere, by the driver of the application."""
    project.write_shop()
    done = project.alembic("upgrade", "heads")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Running upgrade  -> items, about items" in done.stderr
    assert project.column("SELECT name FROM item") == ["a"]
    current = project.alembic("current")
    assert sorted(current.stdout.splitlines()) == ["items (effective head)", "seed (head)"]
    assert project.alembic("check").stdout == "No new upgrade operations detected.\n"
    assert project.alembic("downgrade", "data@base").returncode == 0
    assert project.stored() == ["items"]


@one_of_each
def test_a_failing_revision_is_a_sentence(project: Project):
    """As Alembic's own errors are: no traceback, and a status that is not 0."""
    project.write("items", f'{ITEMS}\nraise ValueError("no such thing")')
    done = project.alembic("upgrade", "heads")
    assert done.returncode != 0
    assert (
        "failed: ValueError: no such thing. Stored now: no revision." in done.stderr + done.stdout
    )
    assert "Traceback" not in done.stderr
    assert "item" not in project.tables()


@anywhere
def test_a_revision_by_the_command_goes_into_the_branch_schema(project: Project):
    """The command takes the only head; here there may be two, of which `schema` is meant."""
    assert project.alembic("revision", "--autogenerate", "-m", "tables").returncode == 0
    assert project.alembic("upgrade", "heads").returncode == 0
    (path,) = (project.root / "migrations" / "schema").glob("*_tables.py")
    done = project.alembic("revision", "--autogenerate", "-m", "nothing")
    assert done.stdout == "Nothing to write: the models and the database agree.\n"
    assert list((project.root / "migrations").glob("*/*.py")) == [path]


@anywhere
def test_check_finds_what_the_models_have(project: Project):
    """And writes nothing."""
    done = project.alembic("check")
    assert done.returncode != 0
    assert "New upgrade operations detected" in done.stderr + done.stdout
    assert list((project.root / "migrations").glob("*/*.py")) == []


@anywhere
def test_the_command_waits_for_the_lock_of_the_application(project: Project):
    """What changes something takes it; `current` does not."""
    project.write_shop()
    project.alembic("current")
    assert not (project.root / "shop.db-migrate").exists()
    project.alembic("stamp", "heads")
    assert (project.root / "shop.db-migrate").exists()


@anywhere
def test_a_tree_that_alembic_made_before_is_served_as_it_is(bare_project: Project):
    """It needs `run` in its env.py, and no branches."""
    root, module = bare_project.root, bare_project.module
    assert bare_project.alembic("init", "migrations").returncode == 0
    lines = ["from dbscope.migrate import run", f"from {module} import Base, db"]
    env = "\n".join([*lines, "run(db, Base.metadata)"])
    (root / "migrations" / "env.py").write_text(env)
    assert bare_project.alembic("revision", "--autogenerate", "-m", "tables").returncode == 0
    assert bare_project.alembic("upgrade", "head").returncode == 0
    assert "item" in bare_project.tables()
    migrations = bare_project.migrations
    assert migrations.status().is_current
    (first,) = migrations.heads()
    second = migrations.revision("by hand", "data")
    assert second is not None
    assert (second.down, second.branches, second.depends_on) == ((first.id,), (), ())
    assert second.path.parent == first.path.parent
    assert (
        bare_project.alembic("revision", "-m", "mine", "--head", first.id, "--splice").returncode
        == 0
    )
    assert len(migrations.merge().down) == 2
    migrations.upgrade()
    assert migrations.status().is_current
