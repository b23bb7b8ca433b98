"""A database that has tables but no version: it is compared with the models, on every database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, make_url

from dbscope import MigrationError
from tests.migrate.project import ITEMS, ON_MYSQL, USUAL, Project
from tests.migrate.test_ends import failure

SYNC = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}

pytestmark = pytest.mark.worlds(drivers=[*USUAL, *ON_MYSQL])
on_mysql = pytest.mark.worlds(drivers=ON_MYSQL)


def make_tables(project: Project) -> None:
    """Make the tables of the models, as `ensure_schema` does."""
    url = make_url(project.url)
    engine = create_engine(url.set(drivername=SYNC[url.get_backend_name()]))
    project.application.Base.metadata.create_all(engine)
    engine.dispose()


def starts(project: Project) -> dict[str, Callable[[], object]]:
    """Return all that looks where the database is, and would run a revision or ask for one."""
    migrations = project.migrations
    return {
        "upgrade": migrations.upgrade,
        "at start": lambda: asyncio.run(migrations.at_start("upgrade")),
        "at start, to check": lambda: asyncio.run(migrations.at_start("check")),
        "check": migrations.check,
        "revision": lambda: migrations.revision("more", autogenerate=True),
    }


@pytest.mark.parametrize("how", ["upgrade", "at start", "at start, to check", "check", "revision"])
def test_tables_as_the_models_have_them_are_named_as_that(project: Project, how: str):
    """With the two commands that write down the version; nothing is changed."""
    project.write("items", ITEMS)
    make_tables(project)
    before = project.tables()
    told = failure(starts(project)[how])
    assert "has tables of the revisions, but no version" in told
    assert "`dbscope stamp heads`" in told
    assert "`dbscope upgrade --adopt`" in told
    assert project.tables() == before


@pytest.mark.parametrize("how", ["adopt", "stamp"])
def test_it_is_adopted_and_goes_on_from_there(project: Project, how: str):
    """No revision is run that was there; the next one is, and then nothing is to be written."""
    project.write("items", ITEMS)
    make_tables(project)
    if how == "adopt":
        assert project.migrations.upgrade(adopt=True) == ()
    else:
        project.migrations.stamp("heads")
    assert project.stored() == ["items"]
    project.migrations.check()
    project.write("later", 'op.execute("CREATE TABLE later (id int)")', down="items")
    assert [each.id for each in project.migrations.upgrade()] == ["later"]
    project.execute("DROP TABLE later")
    assert project.migrations.revision("nothing", autogenerate=True) is None


def test_tables_that_differ_are_refused_with_what_they_lack(project: Project):
    """Also with `adopt`: whoever says that all is there is wrong. By its revision it goes on."""
    project.write("items", ITEMS.replace('sa.UniqueConstraint("name", name="uq_item_name"),', ""))
    name = 'op.create_table("price", sa.Column("id", sa.Integer, primary_key=True))'
    project.write("price", name, down="items")
    project.execute("CREATE TABLE item (id INTEGER NOT NULL PRIMARY KEY)")
    for adopt in (False, True):
        with pytest.raises(MigrationError, match="differs from the models") as raised:
            project.migrations.upgrade(adopt=adopt)
        assert "no column item.name" in str(raised.value)
        assert "`dbscope stamp <revision>`" in str(raised.value)
    assert project.stored() == []
    project.migrations.stamp("items")
    assert [each.id for each in project.migrations.upgrade()] == ["price"]


@on_mysql
def test_what_a_revision_has_half_done_is_told_at_the_next_start(project: Project):
    """Each DDL statement is for good there; when it is undone by hand, the start goes on."""
    path = project.write("items", f"{ITEMS}\nop.execute('SELECT no_such_column FROM item')")
    assert "no_such_column" in failure(project.migrations.upgrade)
    assert project.tables() >= {"item"}
    told = failure(project.migrations.upgrade)
    assert "or a revision that failed half way" in told
    path.write_text(path.read_text().replace("no_such_column", "name"))
    project.execute("DROP TABLE item")
    assert [each.id for each in project.migrations.upgrade()] == ["items"]
    project.migrations.check()
