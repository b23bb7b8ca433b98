"""Whoever reads what the command prints: he may go, never have come, or know fewer characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.project import Project

LATIN = {"PYTHONIOENCODING": "latin-1"}
COMMANDS = (
    ("history",),
    ("current",),
    ("sql",),
    ("ping",),
    ("doctor",),
    ("explain", "ScopeMissing"),
    ("--version",),
)

pytestmark = pytest.mark.timeout(150)  # each command is a process of its own


BOTH = pytest.mark.parametrize("project", ["Database", "AsyncDatabase"], indirect=True)


@pytest.fixture
def project(project: Project, request: pytest.FixtureRequest) -> Project:
    """Return one with a revision that was not run yet, and is about numbers ≥ 0."""
    project.write(kind=getattr(request, "param", "Database"))
    (project.root / "shop.db").touch()
    project.do("init")
    project.do("revision", "-m", "numbers ≥ 0", "--autogenerate")
    return project


def unread(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the command in front of somebody who has gone; return its status, and what it says."""
    theirs, ours = os.pipe()
    os.close(theirs)
    command = [sys.executable, "-m", "dbscope", *arguments]
    with os.fdopen(ours) as gone:
        run = subprocess.run(
            command, stdout=gone, stderr=subprocess.PIPE, text=True, check=False, cwd=folder
        )
    return run.returncode, run.stderr


def closed(folder: Path, stream: str, *arguments: str) -> int:
    """Run the command as a shell does by `>&-`, and return its status."""
    script = f'"$0" -m dbscope "$@" {stream}'
    command = ["sh", "-c", script, sys.executable, *arguments]
    return subprocess.run(command, check=False, cwd=folder, timeout=50).returncode


@BOTH
def test_an_upgrade_goes_on_when_nobody_reads_any_more(project: Project):
    """`dbscope upgrade | true`: what is told is not what is done."""
    assert unread(project.root, "upgrade") == (0, "")
    assert project.do("check") == "The database is up to date.\n"


@BOTH
def test_an_upgrade_goes_on_where_not_all_characters_can_be_printed(project: Project):
    """Its message has one that the terminal has not, which is shown as an escape."""
    done = project.spawn("upgrade", **LATIN)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"numbers \u2265 0" in done.stdout
    assert project.do("check") == "The database is up to date.\n"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_who_reads_no_more_is_no_error(project: Project, command: tuple[str, ...]):
    """As in `dbscope doctor | head -1`: the status is that of the command."""
    project.do("upgrade")
    assert unread(project.root, *command) == (0, "")


@pytest.mark.parametrize("command", ["history", "current", "doctor"])
def test_what_cannot_be_printed_is_shown_as_an_escape(project: Project, command: str):
    """The status stays what it is."""
    project.do("upgrade")
    done = project.spawn(command, **LATIN)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u2265" in done.stdout


def test_sql_is_printed_as_it_is_or_not_at_all(project: Project):
    """An escape would be another value."""
    revision = project.revisions()[0]
    statement = "def upgrade() -> None:\n    op.execute(\"INSERT INTO item (name) VALUES ('≥')\")\n"
    revision.write_text(
        revision.read_text(encoding="utf-8").replace("def upgrade() -> None:\n", statement),
        encoding="utf-8",
    )
    done = project.spawn("sql", **LATIN)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("dbscope: UnicodeEncodeError")


@pytest.mark.parametrize("stream", [">&-", "2>&-", ">&- 2>&-"])
def test_a_stream_that_was_closed_is_not_printed_to(project: Project, stream: str):
    """Neither is that an error."""
    project.do("upgrade")
    assert closed(project.root, stream, "doctor") == 0
    assert closed(project.root, stream, "current", "--app", "nothing") == 2


def test_a_shell_without_input_has_nothing_to_run(project: Project):
    """As with an empty script."""
    assert closed(project.root, "<&-", "shell") == 0


def test_a_working_directory_that_was_deleted_is_told_in_one_sentence(tmp_path: Path):
    """Somebody has to change something first."""
    script = 'mkdir gone; cd gone; rmdir "$PWD"; exec "$0" -m dbscope current'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("dbscope: the working directory cannot be used: ")
    assert done.stderr.count("\n") == 1
