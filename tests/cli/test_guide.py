"""The page about the command is followed as its reader would, and leaves nothing out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from dbscope.backends import registry
from dbscope.cli.commands import app
from dbscope.cli.doctor import application, examine
from tests.cli.project import ROOT, Project
from tests.docs.test_documents import URL, matches

PAGE = (ROOT / "docs" / "how-to" / "command.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(console: str) -> Iterator[tuple[str, str]]:
    """Give each command of a block, and what is shown below it."""
    for part in console.removeprefix("$ ").split("\n$ "):
        command, _, output = part.partition("\n")
        yield command, output


def run(project: Project, command: str) -> str:
    """Run a command of the page, and return all that it prints."""
    command, _, file = command.partition(" < ")
    name, *arguments = shlex.split(command)
    assert name == "dbscope"
    given = (project.root / file).read_text() if file else None
    return project.run(*arguments, given=given).output


@pytest.mark.parametrize("place", ["SQLite", "PostgreSQL"])
def test_the_page_can_be_followed_from_top_to_bottom(project: Project, place: str, request):
    """Every file is written, every command is run, and prints what is shown."""
    url = URL if place == "SQLite" else request.getfixturevalue("postgres_url")
    seen = 0
    for language, file, text in BLOCK.findall(PAGE):
        if file:
            (project.root / file).write_text(text.replace(f'"{URL}"', repr(url)))
        elif language == "console":
            for command, shown in commands(text):
                printed = run(project, command)
                assert matches(shown.strip(), printed), f"$ {command}\n{printed}"
                seen += 1
    assert seen >= 20


def test_the_page_has_every_command_and_option():
    """What is new is documented, or this fails."""
    group: Any = typer.main.get_command(app)
    assert len(group.commands) == 20
    for option in group.params:
        assert option.opts[0] in PAGE, option.opts
    for name, command in group.commands.items():
        assert f"`{name}`" in PAGE, name
        for option in command.params:
            assert option.param_type_name == "argument" or option.opts[0] in PAGE, option.opts


def test_the_page_has_every_check():
    """By the name that is in --json."""
    checks = {
        *application.CHECKS,
        *examine.BEFORE_CONNECTING,
        *examine.CONNECTED,
        *(check for each in registry.known() for check in each.doctor().before),
        *(check for each in registry.known() for check in each.doctor().connected),
    }
    for name in {check.__name__ for check in checks} | {"connection", "migrations"}:
        assert f"`{name}`" in PAGE, name
