"""One process migrates, the others wait, and no lock outlives who holds it."""

from __future__ import annotations

import os
import socket
import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import make_url

from dbscope import ConfigurationError, Database, MigrationError
from dbscope.backends.registry import backend_of
from dbscope.migrate import Migrations
from tests.migrate import switch
from tests.migrate.project import ITEMS, ON_MYSQL, ON_POSTGRESQL, ON_SQLITE, USUAL, Project

everywhere = pytest.mark.worlds(drivers=[*USUAL, *ON_MYSQL])

WAITS = "from tests.migrate import switch\nswitch.begun.set()\nassert switch.here.wait(40)"


@pytest.fixture
def elsewhere(project: Project):
    """A process that is in the middle of a revision, until `switch.here` is set."""
    path = project.write("waits", WAITS)
    code = f"""
import sys, threading
from tests.migrate import switch
from {project.module} import migrations
class Gate:
    def set(self): print("begun", flush=True)
    def wait(self, seconds): return sys.stdin.readline()
switch.begun = switch.here = Gate()
migrations.upgrade()
"""
    return path, code


def holder(project: Project, pid: int) -> str:
    if backend_of(make_url(project.url), project.url).file:
        return f"(whoever has {project.root / 'shop.db-migrate'} open)"
    if project.url.startswith("mysql"):
        return "(connection "
    return f"(dbscope migrating, process {pid} on {socket.gethostname()}, backend "


@everywhere
def test_who_comes_second_waits_and_then_has_nothing_to_do(project: Project, elsewhere):
    """The heads are read again once the lock is there."""
    with project.spawn("-c", elsewhere[1]) as process:
        assert process.stdout.readline() == "begun\n"
        switch.begun, switch.here = threading.Event(), threading.Event()
        results: list[object] = []
        second = threading.Thread(target=lambda: results.append(project.migrations.upgrade()))
        second.start()
        second.join(0.3)
        assert second.is_alive()  # it has seen that there is something to do, and waits
        process.stdin.write("\n")
        process.stdin.flush()
        second.join(40)
        assert results == [()]
        assert not switch.begun.is_set()
        assert process.wait(40) == 0


@everywhere
def test_the_wait_is_bounded(project: Project, elsewhere):
    """After `lock_timeout` it is a MigrationError that says who it is, and what to do."""
    with project.spawn("-c", elsewhere[1]) as process:
        assert process.stdout.readline() == "begun\n"
        hasty = Migrations(project.db, project.config, lock_timeout=0.2)
        with pytest.raises(MigrationError, match=r"was not done within 0.2 s") as caught:
            hasty.upgrade()
        assert holder(project, process.pid) in caught.value.what
        assert not hasty.status().is_current  # to look needs no lock
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(40) == 0
    assert hasty.upgrade() == ()


@everywhere
def test_a_lock_vanishes_with_the_process_that_held_it(project: Project, elsewhere):
    """After kill -9 in the middle of a revision the next one completes it."""
    path, code = elsewhere
    with project.spawn("-c", code) as process:
        assert process.stdout.readline() == "begun\n"
        process.kill()
        process.wait(40)
    assert project.stored() == []
    path.write_text(path.read_text().replace(WAITS.splitlines()[2], "pass"))
    assert [each.id for each in project.migrations.upgrade()] == ["waits"]


@pytest.mark.worlds(drivers=[*ON_POSTGRESQL, *ON_MYSQL])
def test_databases_of_one_server_do_not_wait_for_each_other(
    project: Project, elsewhere, request: pytest.FixtureRequest
):
    """An advisory lock of PostgreSQL is of one database; that of MySQL has the name of one."""
    server = "mysql_server" if project.url.startswith("mysql") else "postgres"
    other = make_url(request.getfixturevalue(server).new_database("other"))
    with project.spawn("-c", elsewhere[1]) as process:
        assert process.stdout.readline() == "begun\n"
        elsewhere[0].write_text(elsewhere[0].read_text().replace(WAITS.splitlines()[2], "pass"))
        url = other.render_as_string(hide_password=False)
        migrations = Migrations(Database(url), project.config, lock_timeout=0.2)
        switch.begun = threading.Event()
        switch.here = threading.Event()
        switch.here.set()
        assert [each.id for each in migrations.upgrade()] == ["waits"]
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(40) == 0


@pytest.mark.worlds(drivers=ON_SQLITE)
def test_the_lock_file_stays_and_stays_empty(project: Project):
    """It lies beside the database; deleting it would not be safe."""
    project.write("items", ITEMS)
    project.migrations.upgrade()
    assert (project.root / "shop.db-migrate").read_bytes() == b""
    assert not list(project.root.glob("shop.db-migrate-*"))


@pytest.mark.worlds(drivers=["sqlite3"])
def test_two_names_of_one_file_have_one_lock(project: Project, elsewhere):
    """A symbolic link to the database leads to the same lock."""
    link = project.root / "link"
    link.mkdir()
    (link / "shop.db").symlink_to(project.root / "shop.db")
    with project.spawn("-c", elsewhere[1]) as process:
        assert process.stdout.readline() == "begun\n"
        hasty = Migrations(Database(f"sqlite:///{link}/shop.db"), project.config, lock_timeout=0)
        with pytest.raises(MigrationError, match="was not done within 0 s"):
            hasty.upgrade()


@pytest.mark.worlds(drivers=["sqlite3"])
def test_a_database_file_that_cannot_be_made_is_a_sentence(project: Project):
    """It is the database itself that cannot be made there."""
    project.write("items", ITEMS)
    db = Database(f"sqlite:///{project.root}/no/such/folder/shop.db")
    with pytest.raises(ConfigurationError, match="there is no folder"):
        Migrations(db, project.config).upgrade()


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///app.db", "app.db"),
        ("sqlite:////var/app.db", "/var/app.db"),
        ("sqlite:///file:app.db?mode=rwc&uri=true", "app.db"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("sqlite:///file:shared?mode=memory&cache=shared&uri=true", None),
        ("postgresql://host/name", None),
    ],
)
def test_the_file_of_a_url(url, file):
    """A database in memory has none."""
    backend = backend_of(make_url(url), url)
    assert backend.file == (file and os.path.realpath(file))
    assert backend.is_memory == (url.startswith("sqlite") and file is None)


@pytest.mark.worlds(drivers=["sqlite3"])
@pytest.mark.parametrize("name", ["lock_timeout", "ddl_timeout"])
@pytest.mark.parametrize("value", [timedelta(seconds=3), Decimal(3), "3", -1, None])
def test_a_patience_is_a_number_of_seconds(project: Project, name: str, value: object):
    """It is refused where it is written, and not by the database in the middle of a start."""
    given: dict[str, Any] = {name: value}
    with pytest.raises(ConfigurationError, match=f"{name} must be a"):
        Migrations(project.db, project.config, **given)
