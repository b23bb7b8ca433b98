"""The shell: what is done in it is gone afterwards, unless it is to stay."""

from __future__ import annotations

import sqlite3

import pytest

from tests.cli.project import Project

ADD = {
    "Database": "db.session.add(Item(name='a'))\ndb.session.flush()\n",
    "AsyncDatabase": "db.session.add(Item(name='a'))\nawait db.session.flush()\n",
}


@pytest.fixture(params=["Database", "AsyncDatabase"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def project(project: Project, kind: str) -> Project:
    project.write(kind=kind)
    project.migrate()
    return project


def stored(project: Project) -> list[str]:
    with sqlite3.connect(project.root / "shop.db") as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM item")]
    connection.close()
    return names


def commit(kind: str) -> str:
    return "await db.session.commit()\n" if kind == "AsyncDatabase" else "db.session.commit()\n"


def test_what_is_piped_in_is_rolled_back(project: Project, kind: str):
    """In a process of its own; it says that it was, and how to keep it."""
    done = project.spawn("shell", given=ADD[kind] + "print('done')\n")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr == "Rolled back. (To keep the work: --commit, or db.session.commit().)\n"
    assert stored(project) == []


def test_with_commit_it_is_there(project: Project, kind: str):
    """In a process of its own."""
    done = project.spawn("shell", "--commit", given=ADD[kind])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stored(project) == ["a"]


def test_what_was_committed_by_hand_stays(project: Project, kind: str):
    """And only that."""
    assert project.run("shell", given=ADD[kind] + commit(kind) + ADD[kind]).exit_code == 0
    assert stored(project) == ["a"]


def test_an_error_keeps_nothing(project: Project, kind: str):
    """Even with --commit; the lines shown are the script's own, and the status is 1."""
    result = project.run("shell", "--commit", given=ADD[kind] + "1 / 0\n")
    assert result.exit_code == 1
    assert '  File "<stdin>", line 3, in <module>\n    1 / 0\n' in result.stderr
    assert "ZeroDivisionError: division by zero\n" in result.stderr
    assert "dbscope/" not in result.stderr
    assert stored(project) == []


@pytest.mark.parametrize(("code", "status"), [("", 0), ("3", 3), ("'no'", 1)])
def test_a_script_can_choose_its_status(project: Project, kind: str, code: str, status: int):
    """`exit()` ends it; the work is kept only after 0."""
    result = project.run("shell", "--commit", given=ADD[kind] + f"raise SystemExit({code})\n")
    assert result.exit_code == status
    assert ("no\n" in result.stderr) is (code == "'no'")
    assert stored(project) == ([] if status else ["a"])


def test_a_script_that_is_no_python(project: Project):
    """It is told as Python tells it, and nothing was run."""
    result = project.run("shell", given="db.session.add(\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "SyntaxError: '(' was never closed" in result.stderr


def test_db_app_models_and_select_are_there(project: Project, kind: str):
    """And functions see what the script has defined."""
    script = """
def names():
    return sorted(cls.__name__ for cls in (Item, type(db), type(app)))
print(names(), select(Item).is_select)
"""
    result = project.run("shell", given=script)
    assert result.stdout == f"{sorted(['Item', kind, 'FastAPI'])} True\n"
    assert result.stderr == ""


def test_where_commits_by_hand_are_forbidden_the_option_commits(project: Project, kind: str):
    """`manual_commit="forbid"` is obeyed."""
    project.write(kind=kind, options="manual_commit='forbid'")
    result = project.run("shell", given=ADD[kind] + commit(kind))
    assert (result.exit_code, "ManualCommitForbidden" in result.stderr) == (1, True)
    assert stored(project) == []
    assert project.run("shell", "--commit", given=ADD[kind]).exit_code == 0
    assert stored(project) == ["a"]
