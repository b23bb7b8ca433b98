"""`Migrations`: upgrade, downgrade, check, the modes at start, and what they cost."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from dbscope import AsyncDatabase, ConfigurationError, Database, DatabaseUnavailable, MigrationError
from dbscope.migrate import Migrations
from tests.migrate import switch
from tests.migrate.project import ITEMS, ON_POSTGRESQL, ON_SQLITE, Project

on_sqlite = pytest.mark.worlds(drivers=ON_SQLITE)
on_postgresql = pytest.mark.worlds(drivers=ON_POSTGRESQL)
anywhere = pytest.mark.worlds(drivers=["inline"])


def start(migrations: Migrations, mode: Any = "upgrade") -> None:
    asyncio.run(migrations.at_start(mode))


def ids(revisions) -> list[str]:
    return [each.id for each in revisions]


# -- upgrade and downgrade -------------------------------------------------------------------------


def test_upgrade_runs_both_branches_in_the_order_of_their_dependencies(project: Project):
    """`heads` works where `head` fails; what a data revision depends on comes before it."""
    project.write_shop()
    with pytest.raises(
        MigrationError, match="There are several heads, so 'head' is ambiguous: use `heads`"
    ):
        project.migrations.upgrade("head")
    assert ids(project.migrations.upgrade()) == ["items", "seed"]
    assert project.column("SELECT name FROM item") == ["a"]
    assert project.migrations.upgrade() == ()
    assert project.migrations.status().is_current


def test_downgrade_of_one_branch_leaves_the_other(project: Project):
    """`data@base` and `data@-1` undo data only, and `schema@base` only what needs it."""
    project.write_shop()
    project.write("prices", 'op.add_column("item", sa.Column("price", sa.Integer))', down="items")
    project.write("more", "pass", branch="data", down="seed")
    project.write("alone", "pass", branch="data", label="other")
    project.migrations.upgrade()
    assert ids(project.migrations.downgrade("data@-1")) == ["more"]
    assert ids(project.migrations.downgrade("data@base")) == ["seed"]
    assert project.column("SELECT name FROM item") == []
    assert ids(project.migrations.status().current) == ["alone", "prices"]
    project.migrations.downgrade("schema@base")
    assert "item" not in project.tables()
    assert project.stored() == ["alone"]
    assert ids(project.migrations.upgrade()) == ["items", "seed", "more", "prices"]


def test_a_target_that_is_not_there_is_a_sentence(project: Project):
    """Not a traceback of Alembic's."""
    with pytest.raises(MigrationError, match="There is no revision or branch 'nowhere'"):
        project.migrations.upgrade("nowhere")


def test_stamp_runs_nothing(project: Project):
    """It only writes what the version table should say."""
    project.write_shop()
    project.migrations.stamp()
    assert project.migrations.status().is_current
    assert "item" not in project.tables()
    project.execute("INSERT INTO alembic_version VALUES ('stranger')")
    project.migrations.stamp("items", purge=True)
    assert project.stored() == ["items"]


def test_status_tells_behind_and_ahead(project: Project):
    """Pending in the order of running; unknown are ids without a file here."""
    project.write_shop()
    before = project.migrations.status()
    assert (ids(before.current), ids(before.pending)) == ([], ["items", "seed"])
    assert "alembic_version" not in project.tables()  # to look changes nothing
    project.migrations.upgrade()
    project.execute("INSERT INTO alembic_version VALUES ('stranger')")
    after = project.migrations.status()
    assert (ids(after.current), after.unknown) == (["seed", "items"], ("stranger",))
    assert not after.is_current


# -- at the start ----------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_at_start_upgrades_without_blocking_the_event_loop(project: Project):
    """A revision that waits for the event loop gets what it waits for."""
    project.write("waits", "from tests.migrate import switch\nassert switch.here.wait(20)")
    switch.here = threading.Event()
    asyncio.get_running_loop().call_later(0.05, switch.here.set)
    await project.migrations.at_start()
    assert project.stored() == ["waits"]


def test_check_refuses_to_start_behind_and_ahead(project: Project):
    """And changes nothing; the message says what is missing."""
    project.write_shop()
    with pytest.raises(MigrationError, match=r"is behind: items \(schema\) about items, seed"):
        start(project.migrations, "check")
    assert project.tables() == set()
    project.migrations.upgrade()
    start(project.migrations, "check")
    project.execute("INSERT INTO alembic_version VALUES ('stranger')")
    for mode in ("check", "upgrade"):
        with pytest.raises(MigrationError, match="is ahead: it is at stranger"):
            start(project.migrations, mode)


@anywhere
def test_off_does_nothing(project: Project):
    """Not even connect."""
    project.write_shop()
    start(project.migrations, "off")
    assert not (project.root / "shop.db").exists()


@anywhere
def test_an_unknown_mode_is_refused(project: Project):
    """A typing error in the settings must not switch the check off."""
    with pytest.raises(ConfigurationError, match="There is no mode 'upgarde'"):
        start(project.migrations, "upgarde")


def test_a_database_that_is_away_is_not_a_failed_migration(tmp_path, monkeypatch):
    """Who restarts the application by the class of the error can tell them apart."""
    monkeypatch.chdir(tmp_path)
    Migrations.init(database="a:b", metadata="a:c", root=tmp_path)
    for database in (Database, AsyncDatabase):
        migrations = Migrations(database("postgresql://postgres@127.0.0.1:1/nowhere"))
        (tmp_path / "migrations" / "env.py").write_text("")
        with pytest.raises(DatabaseUnavailable):
            start(migrations)


def test_an_up_to_date_database_costs_two_statements_and_no_lock(project: Project):
    """Is there a version table, and what does it say; no transaction, no file."""
    project.write_shop()
    project.migrations.upgrade()
    lock = project.root / "shop.db-migrate"
    lock.unlink(missing_ok=True)
    sent: list[str] = []

    def note(connection, cursor, statement, *args) -> None:
        sent.append(statement)

    def begin(connection) -> None:
        sent.append("BEGIN")

    event.listen(Engine, "before_cursor_execute", note)
    try:
        start(project.migrations)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    told = [each for each in sent if "version()" not in each and "current_schema()" not in each]
    told = [each for each in told if not each.startswith("show standard_conforming_strings")]
    assert len(told) == 2, told
    assert "alembic_version" in told[1]
    assert not lock.exists()


@on_postgresql
def test_no_connection_is_taken_from_the_pool_or_left_behind(project: Project, look):
    """The pool may have one connection only, and be in use."""
    kind = type(project.db)
    db = kind(project.url, engine_options={"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1})
    project.write_shop()
    migrations = Migrations(db, project.config)
    migrations.upgrade()
    assert db.engine.pool.checkedin() == db.engine.pool.checkedout() == 0
    onlooker, deadline = look(project.url), time.monotonic() + 20
    while onlooker.backends():  # a server needs a moment to notice that a client has gone
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- kinds of databases ----------------------------------------------------------------------------


@anywhere
@pytest.mark.parametrize("kind", [Database, AsyncDatabase])
def test_a_database_in_memory_keeps_what_was_migrated(bare_project, kind):
    """It is its one connection that is migrated, and no lock file is made."""
    bare_project.init()
    bare_project.write_shop()
    db = kind("sqlite://")
    migrations = Migrations(db, bare_project.config)
    start(migrations)
    start(migrations, "check")

    async def look() -> None:
        async with db.scope():
            assert await db.scalar(switch.NAME) == "a"
            assert await db.scalar(switch.FOREIGN_KEYS) == 1
        await db.dispose()

    if isinstance(db, AsyncDatabase):
        asyncio.run(look())
    else:
        with db.scope():
            assert db.scalar(switch.NAME) == "a"
            assert db.scalar(switch.FOREIGN_KEYS) == 1
        db.dispose()
    assert not list(bare_project.root.glob("*-migrate"))


@pytest.mark.worlds(drivers=["inline", "aiosqlite", "asyncpg"])
def test_only_the_async_driver_need_be_installed(project: Project):
    """No other driver is ever imported, psycopg least of all."""
    project.write_shop()
    code = f"""
import sys
for name in ("psycopg", "psycopg2", "pymysql"):
    sys.modules[name] = None
from {project.module} import migrations
print([each.id for each in migrations.upgrade()], migrations.status().is_current)
"""
    done: subprocess.CompletedProcess[str] = project.python("-c", code)
    assert (done.stdout, done.stderr) == ("['items', 'seed'] True\n", "")


@pytest.mark.anyio
@pytest.mark.worlds(drivers=["inline", "aiosqlite", "psycopg async", "asyncpg"])
async def test_plain_functions_work_inside_a_running_loop(project: Project, blockbuster):
    """They block it, as plain functions do; a notebook and a test's fixture may."""
    project.write_shop()
    blockbuster.deactivate()
    try:
        assert ids(project.migrations.upgrade()) == ["items", "seed"]
    finally:
        blockbuster.activate()


@anywhere
@pytest.mark.anyio
async def test_two_databases_of_one_process_may_start_at_once(project: Project, tmp_path: Path):
    """Alembic knows one running migration in a process; ours wait for each other."""
    project.write_shop()
    others = [AsyncDatabase(f"sqlite:///{tmp_path}/other{number}.db") for number in range(3)]
    await asyncio.gather(*(Migrations(db, project.config).at_start() for db in others))
    await asyncio.gather(*(Migrations(db, project.config).at_start("check") for db in others))


def test_a_command_inside_a_command_is_refused(project: Project):
    """A module that env.py imports and that migrates when imported would wait for itself."""
    project.write("inside", f"from {project.module} import migrations\nmigrations.status()")
    with pytest.raises(MigrationError, match=r"were called by a revision, or by what env.py"):
        project.migrations.upgrade()
    assert project.stored() == []


def test_a_revision_sees_the_context_of_who_migrates(project: Project):
    """What the caller has set in a context variable, as a tenant or a trace."""
    project.write("looks", "from tests.migrate import switch\nswitch.seen.append(switch.who.get())")
    switch.seen.clear()
    token = switch.who.set("me")
    try:
        start(project.migrations)
    finally:
        switch.who.reset(token)
    assert switch.seen == ["me"]


# -- where the settings are ------------------------------------------------------------------------


@anywhere
def test_settings_are_found_from_the_working_directory_upwards(project: Project, monkeypatch):
    """The nearest alembic.ini, or pyproject.toml with [tool.alembic]."""
    project.write_shop()
    below = project.root / "a" / "b"
    below.mkdir(parents=True)
    (below.parent / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    monkeypatch.chdir(below)
    assert ids(Migrations(project.db).history()) == ids(project.migrations.history())


@anywhere
def test_no_settings_is_a_sentence(bare_project: Project, monkeypatch):
    """It says what was looked for, and where."""
    with pytest.raises(ConfigurationError, match=r"There is no alembic.ini, and no pyproject.toml"):
        Migrations(bare_project.db).status()
    with pytest.raises(ConfigurationError, match=r"There is no .*alembic.ini"):
        bare_project.migrations.status()
    (bare_project.root / "pyproject.toml").write_text("[tool")
    with pytest.raises(ConfigurationError, match=r"pyproject.toml cannot be read"):
        Migrations(bare_project.db).status()


@anywhere
def test_a_config_of_alembic_is_taken_as_it_is(project: Project):
    """And is not changed: who made it may go on using it."""
    from alembic.config import Config

    project.write("items", ITEMS)
    config = Config(str(project.config), attributes={"mine": 1})
    migrations = Migrations(project.db, config)
    assert ids(migrations.upgrade()) == ["items"]
    assert config.attributes == {"mine": 1}


@anywhere
def test_a_file_that_cannot_be_loaded_is_a_sentence(project: Project):
    """A revision with a syntax error says where it is."""
    project.write("broken", "1 +")
    with pytest.raises(MigrationError, match=r"SyntaxError: .*broken.py"):
        project.migrations.upgrade()
