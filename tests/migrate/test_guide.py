"""The page about migrations is followed as its reader would: files, commands, and output."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_documents import matches
from tests.migrate.project import ROOT, Project, environment
from tests.support import warm

GUIDE = ROOT / "docs" / "how-to" / "migrations.md"
BLOCK = re.compile(r"^```(\w+)(?: (\w+)=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MODULES = {"dbscope": ["-m", "dbscope"], "alembic": ["-m", "alembic"], "python": []}


def commands(console: str) -> Iterator[tuple[str, str]]:
    """Give each command of a block, and what is shown below it."""
    for part in console.removeprefix("$ ").split("\n$ "):
        command, _, output = part.partition("\n")
        yield command, output


def run(command: str, root: Path) -> str:
    """Run a command of the page, and return all that it prints."""
    name, *arguments = shlex.split(command)
    if name == "rm":
        for path in root.glob(arguments[0]):
            path.unlink()
        return ""
    with warm.Popen(
        [sys.executable, *MODULES[name], *arguments],
        cwd=root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        return str(process.communicate(timeout=100)[0])


def edit(pattern: str, code: str, root: Path) -> None:
    """Replace the functions of a revision."""
    (path,) = root.glob(pattern)
    head, _, _ = path.read_text().partition("def upgrade")
    path.write_text(head + code)


@pytest.mark.worlds(drivers=["inline", "aiosqlite", "asyncpg"])
@pytest.mark.timeout(300)
def test_the_page_can_be_followed_from_top_to_bottom(bare_project: Project):
    """Every file is written, every command is run, and prints what is shown."""
    root = bare_project.root
    seen = 0
    for language, how, where, text in BLOCK.findall(GUIDE.read_text(encoding="utf-8")):
        if how == "file":
            code = text.replace('"sqlite:///app.db"', repr(bare_project.url))
            (root / where).write_text(code)
        elif how == "like":
            assert (root / where).read_text() == text
        elif how == "edit":
            edit(where, text, root)
        elif language == "console":
            for command, shown in commands(text):
                printed = run(command, root)
                assert matches(shown.strip(), printed), f"$ {command}\n{printed}"
                seen += 1
    assert seen > 12
