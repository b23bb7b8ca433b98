"""The fixture `project`: a test that asks for it runs in every world, or where `where` says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.migrate.project import ON_MYSQL, USUAL, WORLDS, Project

SERVERS = {False: ("postgresql", "postgres"), True: ("mysql", "mysql_server")}


@pytest.fixture
def bare_project(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """An application on an empty database, without any migrations."""
    kind, driver = WORLDS[getattr(request, "param", "sqlite3")]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    server = None
    if driver in ("inline", "aiosqlite", "pysqlite"):
        url = f"sqlite+{driver}:///{tmp_path / 'shop.db'}"
    else:
        backend, fixture = SERVERS[driver in ON_MYSQL]
        server = request.getfixturevalue(fixture)
        made = server.new_database(request.node.name)
        url = make_url(made).set(drivername=f"{backend}+{driver}")
        url = url.render_as_string(hide_password=False)
    before = list(sys.path)
    project = Project(tmp_path, kind, url)
    yield project
    sys.path[:] = before
    sys.modules.pop(project.module)
    if server is not None:
        server.drop_database(made)


@pytest.fixture
def project(bare_project: Project) -> Project:
    """An application on an empty database, with the folders of its migrations."""
    bare_project.init()
    return bare_project


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of `project` where it usually runs, or where its mark `worlds` says."""
    if "bare_project" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("worlds")
    drivers = marker.kwargs["drivers"] if marker else USUAL
    ids = [driver.replace(" ", "-") for driver in drivers]
    metafunc.parametrize("bare_project", drivers, indirect=True, ids=ids)
