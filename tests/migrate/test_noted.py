"""When a revision was applied, and by which process, is known to the page where it was noted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbscope.migrate import Migrations
from dbscope.watch.page import revisions
from dbscope.watch.share import folder
from tests.migrate.project import Project

pytestmark = [pytest.mark.timeout(150), pytest.mark.worlds(drivers=["sqlite3", "inline"])]
PATIENCE = 30.0  # seconds


@pytest.fixture
def spool(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of all databases."""
    monkeypatch.setenv("DBSCOPE_WATCH_DIR", str(short_path / "spool"))
    return short_path / "spool"


@pytest.fixture
def watched(spool: Path, project: Project) -> Iterator[Project]:
    """Return a project with two revisions whose database somebody watches."""
    project.write_shop()
    project.db.watch.start()
    end = time.monotonic() + PATIENCE
    while not list(folder.of_database(project.db._source).glob("*.sock")):
        assert time.monotonic() < end
        time.sleep(0.01)
    yield project
    project.db.watch.stop()


def shown(project: Project) -> dict[str, Any]:
    """Return what the page tells of each revision, by a page that has applied none itself."""
    page = Migrations(project.db, str(project.config))
    told = revisions.told(page, project.db.watch.everybody().revisions())
    return {each["id"]: each["applied"] for each in told["revisions"]}


def by_another(project: Project, work: str) -> int:
    """Let another process migrate, which watches nothing; return its number."""
    code = f"import os, {project.module} as it; it.migrations.{work}; print(os.getpid())"
    done = project.python("-c", code)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def test_what_another_process_applies_is_told_with_its_time(watched: Project) -> None:
    """The command of a deployment, say, while the workers of before still run."""
    before = time.time()
    process = by_another(watched, "upgrade()")
    for applied in shown(watched).values():
        assert before <= applied["at"] <= time.time()
        assert applied["by"].endswith(f", process {process}")


def test_what_is_undone_is_not_told_as_applied(watched: Project) -> None:
    """Nor when it was the last time, if somebody else applies it again unseen."""
    by_another(watched, "upgrade()")
    by_another(watched, "downgrade('data@base')")
    assert watched.alembic("upgrade", "heads").returncode == 0
    found = shown(watched)
    assert found["items"] is not None
    assert found["seed"] is None


def test_what_is_stamped_has_no_time(watched: Project) -> None:
    """It was not run, and what was noted before may be of another database by this name."""
    by_another(watched, "upgrade()")
    by_another(watched, "stamp('heads')")
    assert shown(watched) == {"items": None, "seed": None}


def test_what_nobody_has_noted_is_not_known(watched: Project) -> None:
    """Alembic's own command notes nothing."""
    assert watched.alembic("upgrade", "heads").returncode == 0
    assert shown(watched) == {"items": None, "seed": None}


def test_where_nobody_has_watched_nothing_is_written(spool: Path, project: Project) -> None:
    """A command leaves no trace that nobody has asked for; its own page knows all the same."""
    project.write_shop()
    project.migrations.upgrade()
    assert not spool.exists()
    assert shown(project) == {"items": None, "seed": None}
    told = revisions.told(project.migrations, {})
    assert {each["applied"]["by"] for each in told["revisions"]} == {"this process"}


def test_a_note_that_somebody_else_could_have_written_is_not_read(watched: Project) -> None:
    """The folder is of its user alone; and what is no note is none."""
    by_another(watched, "upgrade()")
    place = folder.of_database(watched.db._source)
    (place / "revisions").write_text('{"items": {"at": "<b>", "by": 1}, "seed": 3}')
    assert shown(watched) == {"items": None, "seed": None}
    by_another(watched, "stamp('heads')")
    place.chmod(0o777)
    assert watched.db.watch.everybody().revisions() == {}
    place.chmod(0o700)
