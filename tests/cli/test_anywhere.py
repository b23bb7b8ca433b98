"""What the command does in front of its commands, and where there is no application at all."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import dbscope
from dbscope import DBScopeError, TransactionBroken
from tests.cli.project import Project

MANY = """
from dbscope import Database
first = Database("sqlite:///first.db")
second = Database("sqlite:///second.db")
"""
WITHOUT_TYPER = "import sys; sys.modules['typer'] = None; from dbscope.cli import main; main()"

pytestmark = pytest.mark.timeout(150)  # each command is a process of its own


def alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an empty folder, without Typer."""
    command = [sys.executable, "-c", WITHOUT_TYPER, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_the_version_is_told_without_an_application_and_without_typer(tmp_path: Path):
    """It is that of the package, and reading it imports nothing."""
    assert alone(tmp_path, "--version").stdout == f"dbscope {dbscope.__version__}\n"
    assert vars(dbscope)["__version__"] == dbscope.__version__
    assert dbscope.__version__.split(".") >= metadata.version("dbscope").split(".")[:1]


@pytest.mark.parametrize("place", ["before", "behind", "both"])
def test_the_common_options_stand_before_or_behind_the_command(project: Project, place: str):
    """Who says one in both places means the one behind."""
    (project.root / "many.py").write_text(MANY)
    (project.root / "second.db").touch()
    right, wrong = ["--app", "many", "--database", "second"], ["--app", "x", "--database", "first"]
    before = {"before": right, "behind": [], "both": wrong}[place]
    behind = [] if place == "before" else right
    assert "second: sqlite:///second.db" in project.do(*before, "ping", *behind)


def test_the_traceback_is_asked_for_before_the_command_too(project: Project):
    """Where an error came from."""
    (project.root / "broken.py").write_text("1 / 0\n")
    assert "Traceback" in project.run("--traceback", "--app", "broken", "ping").stderr


def test_a_shell_completes_commands_and_options(project: Project):
    """By Typer's own means, which `--install-completion` sets up."""
    asked = {"_DBSCOPE_COMPLETE": "complete_bash", "COMP_WORDS": "dbscope up", "COMP_CWORD": "1"}
    assert project.spawn(**asked).stdout.split() == ["upgrade"]
    asked |= {"COMP_WORDS": "dbscope revision --auto", "COMP_CWORD": "2"}
    assert project.spawn(**asked).stdout.split() == ["--autogenerate"]


@pytest.mark.parametrize(
    "name", ["TransactionBroken", "transactionbroken", "dbscope.errors.TransactionBroken"]
)
def test_an_error_is_explained_offline(tmp_path: Path, name: str):
    """As every message says, by its section of docs/errors.md; nothing else need be installed."""
    pointer = str(TransactionBroken()).splitlines()[-1]
    assert pointer == "(More: python -m dbscope explain TransactionBroken)"
    told = alone(tmp_path, "explain", name)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("# TransactionBroken\n\nA statement failed, ")
    assert "\n## " not in told.stdout


def test_an_error_of_somebody_else_is_explained_by_ours(tmp_path: Path):
    """By the class that it derives from."""

    class Broken(TransactionBroken):
        """Mine."""

    assert str(Broken()).endswith("explain TransactionBroken)")
    assert str(DBScopeError("No.")).endswith("explain DBScopeError)")


def test_an_error_that_there_is_not_is_refused_with_what_was_meant(tmp_path: Path):
    """Status 2; without a name all names are listed."""
    wrong = alone(tmp_path, "explain", "TransactionBork")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == (
        "dbscope: There is no error 'TransactionBork'; did you mean TransactionBroken?\n"
    )
    assert "\nTransactionBroken\n" in alone(tmp_path, "explain").stdout


def test_the_command_explains_too(project: Project):
    """It is one of its commands, with the same words and the same status."""
    assert project.do("explain", "ScopeMissing").startswith("# ScopeMissing\n")
    assert project.run("explain", "nothing").exit_code == 2
