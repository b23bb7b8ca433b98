"""On a terminal, in a pipe, and before anything is asked for."""

from __future__ import annotations

import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from typing import Self

import pytest

from tests.cli.project import Project

pytestmark = pytest.mark.timeout(150)  # each command is a process of its own

ESCAPE = "\x1b["
COMMANDS = (
    "init revision merge upgrade downgrade stamp current heads history branches check sql ping "
    "shell doctor explain once outbox top mcp"
)


class Terminal:
    """A pseudo-terminal with the command on it."""

    def __init__(self, project: Project, *arguments: str, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        self.shown = ""
        self._seen = 0
        environment = os.environ | {"TERM": "xterm"} | environment
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dbscope", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=project.root,
            env=environment,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait(40)
        os.close(self._ours)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until this is shown, after what was waited for before."""
        while (place := self.shown.find(text, self._seen)) < 0:
            assert self._read(), self.shown
        self._seen = place + len(text)

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read to the end, and return the status."""
        while self._read():
            pass
        return self._process.wait(40)

    def _read(self) -> bool:
        try:
            read = os.read(self._ours, 65536)
        except OSError:  # Linux's way to say that nobody has the other end any more
            return False
        self.shown += read.decode()
        return bool(read)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """What a shell has started in the background ignores Ctrl-C, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def project(project: Project) -> Project:
    project.migrate()
    return project


def test_there_are_colours_on_a_terminal_only(project: Project):
    """Nor where NO_COLOR is set, or where the terminal has none; the words are the same."""
    piped = project.spawn("doctor")
    assert piped.returncode == 0
    assert ESCAPE not in piped.stdout + piped.stderr
    with Terminal(project, "doctor") as terminal:
        assert terminal.end() == 0
        assert ESCAPE in terminal.shown
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        with Terminal(project, "doctor", **environment) as plain:
            assert plain.end() == 0
            assert ESCAPE not in plain.shown
            assert plain.shown.replace("\r\n", "\n").rpartition("\r")[2] == piped.stdout


def test_an_error_is_coloured_too(project: Project):
    """And plain in a pipe."""
    assert project.spawn("ping", "--app", "nothing").stderr.startswith("dbscope: there is no")
    with Terminal(project, "ping", "--app", "nothing") as terminal:
        assert terminal.end() == 2
        assert terminal.shown.startswith("\x1b[31mdbscope: \x1b[0mthere is no")


def test_long_work_shows_what_it_is_about(project: Project):
    """On a terminal only, and it is gone when the work is done."""
    with Terminal(project, "doctor") as terminal:
        terminal.end()
    assert "looking at db …\r" in terminal.shown
    assert f"\r{' ' * len('looking at db …')}\r" in terminal.shown
    assert project.spawn("doctor").stderr == ""


def test_the_shell_is_a_prompt(project: Project):
    """It says what is there, goes on after an error, and rolls back at `exit()`."""
    with Terminal(project, "shell") as terminal:
        terminal.wait_for(">>> ")
        assert "the models: Item.\r\n" in terminal.shown
        terminal.type("db.session.add(Item(name='a'))\n1 / 0\ndb.session.flush()\n6 * 7\n")
        terminal.wait_for("42")
        assert "ZeroDivisionError" in terminal.shown
        terminal.type("exit()\n")
        assert terminal.end() == 0
    assert "Rolled back." in terminal.shown
    assert names(project) == []


def test_the_prompt_awaits(project: Project):
    """And keeps at the end of input what it was told to keep."""
    project.write(kind="AsyncDatabase")
    with Terminal(project, "shell", "--commit") as terminal:
        terminal.wait_for(">>> ")
        terminal.type("db.session.add(Item(name='a'))\nawait db.session.flush()\n6 * 7\n")
        terminal.wait_for("42")
        terminal.wait_for(">>> ")
        terminal.type("\x04")
        assert terminal.end() == 0
    assert names(project) == ["a"]


def names(project: Project) -> list[str]:
    with sqlite3.connect(project.root / "shop.db") as connection:
        found = [name for (name,) in connection.execute("SELECT name FROM item")]
    connection.close()
    return found


def test_help_lists_all_commands(project: Project):
    """Each with a sentence that is whole."""
    told = project.spawn("--help", COLUMNS="80").stdout
    listed = re.findall(r"^  (\w+) +\S.*[.]$", told, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS.split())
    assert "..." not in told.partition("Commands:")[2]


def test_help_imports_neither_application_nor_drivers(project: Project):
    """It needs no database, no Alembic, and starts at once."""
    (project.root / "shop.py").write_text("raise SystemExit('imported')\n")
    code = (
        "import sys\nsys.argv = ['dbscope', '--help']\nfrom dbscope.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "print(*sys.modules, sep='\\n')"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project.root
    )
    unwanted = r"(shop|alembic|fastapi|aiosqlite|psycopg|asyncpg|sqlalchemy\.dialects\..*)"
    assert re.findall(rf"^{unwanted}$", told.stdout, re.MULTILINE) == []


@pytest.mark.parametrize(("missing", "extra"), [("typer", "cli"), ("alembic", "migrations")])
def test_a_missing_package_is_named(project: Project, missing: str, extra: str):
    """The command is an extra; alone, the library has neither. Nothing could begin: status 2."""
    (project.root / "shop.py").write_text(
        "from dbscope import Database\napp = Database('sqlite:///shop.db')\n"
    )
    code = f"import sys; sys.modules[{missing!r}] = None; from dbscope.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "current"],
        capture_output=True,
        text=True,
        check=False,
        cwd=project.root,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(rf"{missing.title()} .*: pip install 'dbscope\[{extra}\]'", done.stderr)
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_the_statement_and_not_the_shell(project: Project):
    """As in Python's own."""
    with Terminal(project, "shell") as terminal:
        terminal.wait_for(">>> ")
        # One long sleep could begin when the signal is there already, and would not end by it.
        terminal.type("import time; print(6 * 7); [time.sleep(0.01) for _ in range(10**6)]\n")
        terminal.wait_for("42")
        terminal.interrupt()
        terminal.wait_for("KeyboardInterrupt")
        terminal.type("exit(3)\n")
        assert terminal.end() == 3
