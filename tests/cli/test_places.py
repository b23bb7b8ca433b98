"""The command and the application agree about where the revisions are."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, make_url

from dbscope.migrate import Migrations
from tests.cli.project import Project

MORE = """
from pathlib import Path
from dbscope.migrate import Migrations
migrations = Migrations(db, Path(__file__).parent / "alembic.ini")
"""
OTHER = """
from dbscope import Database
from sqlalchemy.orm import DeclarativeBase
class Base(DeclarativeBase): pass
db = Database("sqlite:///other.db")
"""
REVISION = """
'''about {id}'''
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = {id!r}, None, "schema", None
def upgrade(): op.create_table({table!r}, sa.Column("id", sa.Integer, primary_key=True))
def downgrade(): op.drop_table({table!r})
"""


def tables(file: Path) -> set[str]:
    """Return the tables of a database."""
    engine = create_engine(f"sqlite:///{file}")
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


@pytest.fixture
def acme(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A package `acme_shop`, as it would be installed, and beside it four folders of others."""
    package = project.root / "site" / "acme_shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    project.write(f"sqlite:///{project.root}/acme.db", file="site/acme_shop/main.py")
    monkeypatch.syspath_prepend(project.root / "site")
    (project.root / "pyproject.toml").unlink()
    Migrations.init(
        database="acme_shop.main:db", metadata="acme_shop.main:Base.metadata", root=package
    )
    (package / "migrations/schema/one.py").write_text(REVISION.format(id="acme1", table="item"))
    for name in ("ini", "toml", "empty", "ini/below"):
        folder = project.root / name
        folder.mkdir(parents=True)
        if name in ("ini", "toml"):
            if name == "toml":
                (folder / "pyproject.toml").touch()
            (folder / f"other_{name}.py").write_text(OTHER)
            where = f"other_{name}"
            Migrations.init(database=f"{where}:db", metadata=f"{where}:Base.metadata", root=folder)
            text = REVISION.format(id="other1", table="other")
            (folder / "migrations/schema/one.py").write_text(text)
    (project.root / "shop.py").unlink()
    return project


FOLDERS = ["ini", "toml", "empty", "ini/below", "site"]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("own", [True, False], ids=["Migrations", "none"])
def test_from_any_folder_the_application_says_where_its_revisions_are(
    acme: Project, monkeypatch: pytest.MonkeyPatch, folder: str, own: bool
):
    """By its `Migrations`; else they are those beside it, never those of the working directory."""
    if own:
        with (acme.root / "site/acme_shop/main.py").open("a") as file:
            file.write(MORE)
    monkeypatch.chdir(acme.root / folder)
    assert "upgrade acme1" in acme.do("upgrade", "--app", "acme_shop.main:app")
    assert tables(acme.root / "acme.db") == {"alembic_version", "item"}
    assert acme.do("check", "--app", "acme_shop.main:app") == "The database is up to date.\n"
    assert acme.doctor("--app", "acme_shop.main:app")["migrations"].level == "ok"


def test_revisions_of_another_application_are_refused(
    acme: Project, monkeypatch: pytest.MonkeyPatch
):
    """`Migrations(db)` looks from the working directory; whose env.py is there is looked at."""
    with (acme.root / "site/acme_shop/main.py").open("a") as file:
        file.write("\nfrom dbscope.migrate import Migrations\nmigrations = Migrations(db)\n")
    monkeypatch.chdir(acme.root / "ini")
    result = acme.run("upgrade", "--app", "acme_shop.main:app")
    assert (result.exit_code, "and not of database" in result.stderr) == (2, True), result.stderr
    assert tables(acme.root / "acme.db") == set()


def test_revisions_about_an_equal_url_are_refused_too(
    acme: Project, monkeypatch: pytest.MonkeyPatch
):
    """Many applications have `sqlite:///app.db`; the remedy is not cut off by long paths."""
    with (acme.root / "site/acme_shop/main.py").open("a") as file:
        file.write("\nfrom dbscope.migrate import Migrations\nmigrations = Migrations(db)\n")
    other = acme.root / "ini" / "other_ini.py"
    other.write_text(OTHER.replace("sqlite:///other.db", f"sqlite:///{acme.root}/acme.db"))
    folder = acme.root / "ini" / ("long" * 30) / ("path" * 30)
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    result = acme.run("upgrade", "--app", "acme_shop.main:app")
    assert result.exit_code == 2, result.output
    assert f"made at {other}:5, and not of database" in result.stderr
    assert result.stderr.endswith("let env.py import the database of the application.\n")
    assert tables(acme.root / "acme.db") == set()


def test_config_is_for_an_application_without_migrations(
    acme: Project, monkeypatch: pytest.MonkeyPatch
):
    """Where there is one of its own, another --config is refused."""
    monkeypatch.chdir(acme.root / "empty")
    config = str(acme.root / "site/acme_shop/alembic.ini")
    told = acme.do("upgrade", "--app", "acme_shop.main:app", "--config", config)
    assert "upgrade acme1" in told
    with (acme.root / "site/acme_shop/main.py").open("a") as file:
        file.write(MORE)
    other = str(acme.root / "ini/alembic.ini")
    result = acme.run("downgrade", "base", "--app", "acme_shop.main:app", "--config", other)
    assert (result.exit_code, "has Migrations of its own" in result.stderr) == (2, True)
    assert "item" in tables(acme.root / "acme.db")


@pytest.mark.parametrize("command", [["upgrade"], ["upgrade", "schema@+1"], ["downgrade", "base"]])
def test_versions_that_these_revisions_do_not_know_are_refused_first(
    acme: Project, command: list[str]
):
    """Whatever the target is: nothing is done."""
    acme.do("upgrade", "--app", "acme_shop.main:app")
    folder = acme.root / "site/acme_shop/migrations/schema"
    (folder / "one.py").write_text(REVISION.format(id="acme2", table="new"))
    result = acme.run(*command, "--app", "acme_shop.main:app")
    assert (result.exit_code, "is ahead: it is at acme1" in result.stderr) == (1, True)
    assert tables(acme.root / "acme.db") == {"alembic_version", "item"}


@pytest.fixture(params=["sqlite", "psycopg", "asyncpg", "pymysql", "asyncmy"])
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    """An empty database, as `Project.write` takes it."""
    driver = request.param
    if driver == "sqlite":
        return {"url": "sqlite:///shop.db"}
    backend = "mysql" if "my" in driver else "postgresql"
    url = make_url(request.getfixturevalue("mysql_url" if backend == "mysql" else "postgres_url"))
    named = url.set(drivername=f"{backend}+{driver}").render_as_string(hide_password=False)
    return {"url": named, "kind": "AsyncDatabase" if driver.startswith("async") else "Database"}


MADE = """
from dbscope.migrate.connect import look
look(db, lambda connection: Base.metadata.create_all(connection))
"""


def test_a_database_without_a_version_is_adopted(project: Project, database: dict[str, str]):
    """Made by `ensure_schema`: start, command and doctor say what it is, and what to do."""
    project.write(**database)
    project.do("init")
    project.do("revision", "-m", "first", "--autogenerate")
    project.write(**database, more=MADE)
    for command in ("upgrade", "check"):
        result = project.run(command)
        assert (result.exit_code, "but no version" in result.stderr) == (1, True), result.stderr
        assert "dbscope stamp heads" in result.stderr
    found = project.doctor()["migrations"]
    assert found.is_bad("serious", "but no version")
    assert found.remedy == "dbscope stamp heads"
    assert project.do("upgrade", "--adopt") == "Nothing to do.\n"
    assert project.doctor()["migrations"].level == "ok"


def test_what_a_database_without_a_version_has_not_is_listed(
    project: Project, database: dict[str, str]
):
    """It is not stamped with --adopt either."""
    project.write(**database)
    project.do("init")
    project.do("revision", "-m", "first", "--autogenerate")
    project.write(**database, more=MADE)
    project.run("current")
    project.write(
        **database,
        more="\nfrom sqlalchemy import Integer\nItem.price = mapped_column('price', Integer)\n"
        "class Other(Base):\n    __tablename__ = 'other'\n"
        "    id: Mapped[int] = mapped_column(primary_key=True)\n",
    )
    for command in (["upgrade"], ["upgrade", "--adopt"]):
        result = project.run(*command)
        assert (result.exit_code, "no table other" in result.stderr) == (1, True), result.stderr
        assert "no column item.price" in result.stderr
    found = project.doctor()["migrations"]
    assert found.is_bad("serious", "no table other; no column item.price")
