"""R18: a process forks while its pool is in use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.forks import CHILDREN

ROOT = Path(__file__).resolve().parents[2]
SYNC = ["psycopg", "pymysql", "pysqlite"]
ASYNC = ["psycopg", "asyncpg", "asyncmy", "aiosqlite", "inline"]
EACH = [("sync", driver) for driver in SYNC] + [("async", driver) for driver in ASYNC]
ON_SQLITE = [("sync", "pysqlite"), ("async", "aiosqlite"), ("async", "inline")]

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.timeout(200),
]


def run(program: str, url: str, count: int) -> list[str]:
    """Run a program of `forks.py` without a warning, and return what it printed."""
    command = [sys.executable, "-W", "error", "-m", "tests.acceptance.forks", program, url]
    done = subprocess.run(
        [*command, str(count)], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(("kind", "url"), EACH, indirect=["url"])
def test_forked_children_and_their_parent_get_their_own_answers(kind, url, times, figures):
    """R18: every process gets the answers to its own questions; the parent's pool still works."""
    count = times(50, 200)
    assert run(kind, url, count) == ["0"] * (1 + CHILDREN)
    figures(f"R18 {CHILDREN} children, {CHILDREN * count} queries: all right, 0 wrong")


@pytest.mark.parametrize(("kind", "url"), ON_SQLITE, indirect=["url"])
def test_nothing_is_lost_that_a_forked_child_writes_to_sqlite(kind, url, times, figures):
    """No file is open across a fork: the child would write to a log that its parent removes.

    https://sqlite.org/howtocorrupt.html, 2.6.
    """
    count = times(200, 2_000)
    assert run(f"writing {kind}", url, count) == ["0", str(count + 1)]
    figures(f"R18 {count} rows of a child, while its parent closes the file: 0 lost")


@pytest.mark.parametrize("leave", [True, False], ids=["by its end", "by an exit"])
@pytest.mark.parametrize("url", SYNC, indirect=True)
def test_a_child_that_leaves_a_scope_of_its_parent_ends_nothing_there(url, leave):
    """The transaction is the parent's: its rows are stored together, its hook runs once, there."""
    in_child = ["0", "hooks", "in", "the", "child,"] if leave else []
    own = ["5"] if leave and "sqlite" not in url else []
    assert run("inside", url, int(leave)) == [*in_child, "1", "1", "2", "4", *own]


@pytest.mark.parametrize("url", ["psycopg", "asyncpg", "asyncmy"], indirect=True)
def test_a_child_ends_no_transaction_of_another_task(url):
    """A scope of which the forking code knows nothing is the parent's, too."""
    assert run("beside", url, 0) == ["0", "1", "2"]


@pytest.mark.parametrize("url", ["psycopg", "pymysql"], indirect=True)
def test_a_given_engine_is_started_anew_before_its_database_is_used(url):
    """It has connections from before: the parent and its child would share them."""
    assert run("given", url, 0) == ["True", "True"]
