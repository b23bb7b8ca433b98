"""R18: a process forks while its pool is in use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.forks import CHILDREN

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("sync", "psycopg"),
        ("sync", "pysqlite"),
        ("async", "psycopg"),
        ("async", "asyncpg"),
        ("async", "aiosqlite"),
    ],
    indirect=["url"],
)
@pytest.mark.timeout(200)
def test_forked_children_and_their_parent_get_their_own_answers(kind, url, times, figures):
    """R18: every process gets the answers to its own questions; the parent's pool still works."""
    count = times(50, 200)
    command = [sys.executable, "-W", "error", "-m", "tests.acceptance.forks", kind, url]
    done = subprocess.run(
        [*command, str(count)], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["0"] * (1 + CHILDREN)
    figures(f"R18 {CHILDREN} children, {CHILDREN * count} queries: all right, 0 wrong")
