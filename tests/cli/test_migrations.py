"""The commands about migrations, on files and databases that are really there."""

from __future__ import annotations

import re

import pytest

from tests.cli.project import PYPROJECT, Project

REFUSED = {
    "upgrade": ["upgrade", "nothing"],
    "downgrade": ["downgrade", "nothing"],
    "stamp": ["stamp", "nothing"],
    "sql": ["sql", "nothing"],
    "merge": ["merge", "nothing", "else"],
    "a branch": ["revision", "-m", "x", "--branch", "nothing"],
    "the head of a branch": ["upgrade", "nothing@head"],
    "a branch to merge": ["merge", "--branch", "nothing"],
}


@pytest.fixture(params=["Database", "AsyncDatabase"])
def project(project: Project, request: pytest.FixtureRequest) -> Project:
    project.write(kind=request.param)
    return project


def id_of(project: Project, name: str) -> str:
    """Return the id of the revision of this name."""
    path = next(path for path in project.revisions() if path.stem.endswith(f"_{name}"))
    found = re.search(r"^revision: str = '(\w+)'", path.read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_from_nothing_to_the_newest_revision_and_back(project: Project):
    """Each command says what it has done, a line for each revision."""
    assert "wrote migrations/env.py" in project.do("init")
    written = project.do("revision", "-m", "first", "--autogenerate")
    assert re.fullmatch(r"wrote migrations/schema/\S+_first\.py\n", written)
    first = id_of(project, "first")
    assert project.do("current") == (
        f"No revision was run yet.\n1 revision behind:\n  {first} schema first (head)\n"
    )
    assert project.run("check").exit_code == 1
    assert project.do("upgrade") == f"upgrade {first} first\n1 revision run.\n"
    assert project.do("upgrade") == "Nothing to do.\n"
    assert project.do("check") == "The database is up to date.\n"
    assert project.do("current") == f"{first} schema first (head)\n"
    assert project.do("downgrade", "base") == f"downgrade {first} first\n1 revision taken back.\n"
    assert project.do("current").startswith("No revision was run yet.\n")


def test_autogenerate_writes_nothing_when_there_is_nothing(project: Project):
    """No empty files."""
    project.migrate()
    told = project.do("revision", "-m", "second", "--autogenerate")
    assert told == "The database has all that the models have; no file was written.\n"
    assert len(project.revisions()) == 1


def test_there_is_a_branch_of_the_schema_and_one_of_the_data(project: Project):
    """heads, branches and history show both."""
    project.migrate()
    project.do("revision", "-m", "seed", "--branch", "data")
    first, seed = id_of(project, "first"), id_of(project, "seed")
    heads = {f"{first} schema first (head)", f"{seed} data seed (head)"}
    assert set(project.do("heads").splitlines()) == heads
    assert set(project.do("history").splitlines()) == heads
    branches = project.do("branches")
    assert f"schema\n  {first} schema first (head)\n" in branches
    assert f"data\n  {seed} data seed (head)\n" in branches
    assert project.do("upgrade", "data@head").startswith(f"upgrade {seed} seed\n")


def test_two_heads_are_merged(project: Project):
    """After that there is one, and upgrade knows where to go."""
    project.migrate()
    project.do("revision", "-m", "second")
    second = next(path for path in project.revisions() if path.stem.endswith("_second"))
    other = second.read_text().replace(id_of(project, "second"), "0123456789ab")
    (second.parent / "2026-01-01_0123456789ab_third.py").write_text(other)
    assert len(project.do("heads").splitlines()) == 2
    assert "wrote migrations/schema/" in project.do("merge")
    assert len(project.do("heads").splitlines()) == 1
    assert "3 revisions run." in project.do("upgrade")
    assert "nothing to merge" in project.run("merge").stderr


def test_stamp_runs_nothing(project: Project):
    """It only notes where the database is; --purge forgets what it does not know."""
    project.migrate()
    project.do("revision", "-m", "second")
    assert project.do("stamp") == "Stamped: heads.\n"
    assert project.do("upgrade") == "Nothing to do.\n"
    next(path for path in project.revisions() if path.stem.endswith("_second")).unlink()
    ahead = project.run("check")
    assert (ahead.exit_code, "is ahead" in ahead.stderr) == (1, True)
    assert "(no file here: newer code wrote it)" in project.do("current")
    project.do("stamp", "--purge")
    assert project.do("check") == "The database is up to date.\n"


def test_sql_is_printed_as_it_is(project: Project):
    """For somebody else to run; nothing is hidden in it, and nothing is connected."""
    project.do("init")
    project.do("revision", "-m", "first")
    path = project.revisions()[0]
    url = "http://me:secret@host/"
    path.write_text(path.read_text().replace("    pass", f"    op.execute(\"SELECT '{url}'\")", 1))
    assert f"SELECT '{url}';" in project.do("sql")
    first = id_of(project, "first")
    assert "DELETE FROM alembic_version" in project.do("sql", "--downgrade", f"{first}:base")
    assert not (project.root / "shop.db").exists()


def test_init_finds_what_env_py_has_to_import(project: Project):
    """The module that makes the database and the one that has the base class."""
    store = (project.root / "shop.py").read_text()
    (project.root / "store.py").write_text(store)
    (project.root / "shop.py").write_text("from store import app, db\n")
    project.do("init", "changes")
    env = (project.root / "changes" / "env.py").read_text()
    assert "from store import Base, db\n" in env
    assert "run(db, Base.metadata)" in env


def test_init_asks_if_there_are_several_bases(project: Project):
    """And takes what it is told."""
    project.write(more="\n\nclass Other(DeclarativeBase):\n    metadata = MetaData()\n")
    result = project.run("init")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "several (shop:Base.metadata, shop:Other.metadata)" in result.stderr
    assert "wrote" in project.do("init", "--metadata", "shop:Other.metadata")


def test_init_takes_tables_that_have_no_class(project: Project):
    """Their metadata, if it is one."""
    (project.root / "shop.py").write_text(
        "from dbscope import Database\nfrom sqlalchemy import Column, Integer, MetaData, Table\n"
        "db = Database('sqlite:///shop.db')\napp = db\nnotes = Table('notes', MetaData(), "
        "Column('id', Integer, primary_key=True))\n"
        "others = Table('others', notes.metadata, Column('id', Integer))\n"
    )
    project.migrate()
    assert "create_table('notes'" in project.revisions()[0].read_text()


def test_init_is_done_once(project: Project):
    """What is there is not written over."""
    project.do("init")
    env = (project.root / "migrations" / "env.py").read_text()
    result = project.run("init", "other")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert (project.root / "migrations" / "env.py").read_text() == env
    assert (project.root / "pyproject.toml").read_text().startswith(PYPROJECT)


@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED)
def test_what_does_not_exist_is_told_in_one_sentence(project: Project, arguments: list[str]):
    """Status 1, no traceback."""
    project.migrate()
    result = project.run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("dbscope: ")
    assert result.stderr.count("\n") == 1
    assert re.search(r"There is no (revision or )?branch 'nothing'", result.stderr)
    assert "schema" in result.stderr or "`dbscope history` shows them" in result.stderr


def test_autogenerating_what_is_behind_is_told_in_one_sentence(project: Project):
    """What is pending would be written once more; it says which command runs it."""
    project.migrate()
    project.do("revision", "-m", "second")
    result = project.run("revision", "-m", "third", "--autogenerate")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "is behind: " in result.stderr
    assert "Run `dbscope upgrade`" in result.stderr
    assert len(project.revisions()) == 2


def test_without_settings_it_says_what_writes_them(project: Project):
    """`dbscope init`."""
    result = project.run("upgrade")
    assert (result.exit_code, "`dbscope init` writes it" in result.stderr) == (2, True)


def test_a_revision_that_fails_is_told_in_one_sentence(project: Project):
    """The database's own words, and what was run before it stays told."""
    project.do("init")
    project.do("revision", "-m", "first")
    path = project.revisions()[0]
    path.write_text(path.read_text().replace("    pass", '    op.execute("SELECT missing")', 1))
    result = project.run("upgrade")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "no such column: missing" in result.stderr
    assert result.stdout == f"upgrade {id_of(project, 'first')} first\n"
