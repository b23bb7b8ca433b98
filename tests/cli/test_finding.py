"""Which application the command finds, and what it says if it finds none."""

from __future__ import annotations

import re

import pytest

from tests.cli.project import Project

MANY = """
from dbscope import Database
first = Database("sqlite:///first.db")
second = Database("sqlite:///second.db", name="reports")
"""
SECRET = "hunter2-hunter2"


def shown(project: Project, *arguments: str) -> str:
    return project.do("ping", *arguments).splitlines()[0].removeprefix("database").strip()


@pytest.fixture
def project(project: Project) -> Project:
    for name in ("shop", "first", "second"):
        (project.root / f"{name}.db").touch()
    return project


def test_it_reads_the_entrypoint_of_fastapi(project: Project):
    """`[tool.fastapi] entrypoint` is found from a folder below, too."""
    assert shown(project) == "db: sqlite:///shop.db"


def test_the_entrypoint_is_found_from_a_folder_below(project: Project, monkeypatch):
    """The nearest pyproject.toml that has it counts, and its folder is imported from."""
    below = project.root / "deep" / "er"
    below.mkdir(parents=True)
    (below.parent / "pyproject.toml").write_text("[project]\n")
    (below / "shop.db").touch()
    monkeypatch.chdir(below)
    assert shown(project) == "db: sqlite:///shop.db"


def test_without_an_entrypoint_the_usual_files_are_tried(project: Project):
    """`main.py` comes before `app/main.py`, as for `fastapi dev`."""
    (project.root / "pyproject.toml").unlink()
    (project.root / "app").mkdir()
    project.write("sqlite:///second.db", file="app/main.py")
    assert shown(project) == "db: sqlite:///second.db"
    project.write("sqlite:///first.db", file="main.py")
    assert shown(project) == "db: sqlite:///first.db"


def test_app_comes_before_all_else(project: Project):
    """`--app` names a database, an application or a module."""
    (project.root / "many.py").write_text(MANY)
    assert shown(project, "--app", "many:second") == "second: sqlite:///second.db"
    assert shown(project, "--app", "shop:app") == "db: sqlite:///shop.db"
    assert shown(project, "--app", "shop") == "db: sqlite:///shop.db"


def test_one_of_several_databases_is_chosen_by_its_variable_or_its_name(project: Project):
    """Without a choice it is refused, with the names."""
    (project.root / "many.py").write_text(MANY)
    refused = project.run("ping", "--app", "many")
    assert refused.exit_code == 2
    assert "--database {first, second}" in refused.stderr
    for name in ("second", "reports"):
        assert shown(project, "--app", "many", "--database", name).startswith("second: ")


def test_a_database_of_another_module_is_found(project: Project):
    """In the same folder, by its variable; its companion `db.sync` is no second one."""
    (project.root / "store.py").write_text(
        "from dbscope import AsyncDatabase\nmine = AsyncDatabase('sqlite:///first.db')\n"
        "plain = mine.sync\n"
    )
    (project.root / "api.py").write_text(
        "import store\nfrom fastapi import FastAPI\napp = FastAPI()\nstore.mine.install(app)\n"
    )
    assert shown(project, "--app", "api:app") == "mine: sqlite:///first.db"


FACTORIES = """
from dbscope import Database
from fastapi import FastAPI

def create_app():
    app = FastAPI()
    Database("sqlite:///second.db", name="made").install(app)
    return app

def create_db():
    return Database("sqlite:///first.db")

def wants(name): ...
def fails(): 1 / 0
def exits(): raise SystemExit("no")
def nothing(): ...
async def slow(): ...
"""


def test_a_function_makes_the_application_or_the_database(project: Project):
    """As `uvicorn --factory` calls it: without arguments."""
    (project.root / "made.py").write_text(FACTORIES)
    assert shown(project, "--app", "made:create_app") == "made: sqlite:///second.db"
    assert shown(project, "--app", "made:create_db") == "create_db: sqlite:///first.db"


BAD = {
    "wants arguments": (["--app", "made:wants"], "missing 1 required positional argument"),
    "fails": (["--app", "made:fails"], "made:fails makes no application: ZeroDivisionError"),
    "ends": (["--app", "made:exits"], "made:exits makes no application: SystemExit: no"),
    "makes nothing": (
        ["--app", "made:nothing"],
        "made:nothing makes no application: it returns nothing",
    ),
    "is async": (["--app", "made:slow"], "it is async"),
    "no such module": (["--app", "nothing:db"], "no module 'nothing' in "),
    "no such name": (["--app", "shop:nothing"], "'shop' has no 'nothing'"),
    "neither": (["--app", "shop:Item"], "shop:Item is no application and no database"),
    "not a target": (["--app", ":db"], "module:name, like main:app, and not ':db'"),
    "no such database": (["--database", "x"], "no database 'x', but db"),
    "does not import": (["--app", "broken"], "ZeroDivisionError"),
    "is no Python": (["--app", "syntax"], "SyntaxError"),
    "needs what is not there": (["--app", "needs"], "No module named 'not_there'"),
    "exits": (["--app", "exits"], "SystemExit: no"),
    "has no database": (["--app", "empty"], "empty has no database"),
    "a bad URL": (["--app", "url"], "database URL cannot be read"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("command", ["ping", "doctor", "current", "shell"])
def test_what_cannot_be_found_is_told_in_one_sentence(
    project: Project, command: str, arguments: list[str], words: str
):
    """Status 2, one line, no traceback, no password."""
    files = {
        "broken": "x = 1\n1 / 0\n",
        "syntax": "def f(:\n",
        "needs": "import not_there\n",
        "exits": "raise SystemExit('no')\n",
        "empty": "",
        "made": FACTORIES,
        "url": f"from dbscope import Database\nDatabase('postgresql://me:{SECRET}@host:x/y')\n",
    }
    for name, text in files.items():
        (project.root / f"{name}.py").write_text(text)
    result = project.run(command, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("dbscope: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    assert SECRET not in result.stderr


def test_an_import_that_fails_says_where(project: Project):
    """The last line of the application, and with --traceback all of them."""
    (project.root / "broken.py").write_text("x = 1\n1 / 0\n")
    result = project.run("ping", "--app", "broken")
    assert re.search(r"at \S+broken\.py:2\. ", result.stderr)
    assert "Traceback" in project.run("ping", "--app", "broken", "--traceback").stderr


def test_no_application_at_all(project: Project):
    """It says how to name one."""
    (project.root / "pyproject.toml").unlink()
    result = project.run("ping")
    assert result.exit_code == 2
    assert "[tool.fastapi]" in result.stderr


def test_a_pyproject_that_cannot_be_read(project: Project):
    """Its name, and where it is wrong."""
    (project.root / "pyproject.toml").write_text("[tool.\n")
    result = project.run("ping")
    assert result.exit_code == 2
    assert "pyproject.toml cannot be read: " in result.stderr


def test_a_traceback_shows_no_password(project: Project):
    """Even where the line of the application has it."""
    line = f"Database('postgresql://me:{SECRET}@host:x/y')\n"
    (project.root / "url.py").write_text(f"from dbscope import Database\n{line}")
    result = project.run("ping", "--app", "url", "--traceback")
    assert "postgresql://me:***@host:x/y" in result.stderr
    assert SECRET not in result.output
