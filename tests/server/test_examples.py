"""The examples in the server's docstrings are run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import doctest, importlib, sys
result = doctest.testmod(importlib.import_module(sys.argv[1]))
assert result.attempted and not result.failed, result
"""


@pytest.mark.parametrize("driver", ["sqlite", "psycopg"])
@pytest.mark.parametrize("module", ["server.db.database"])
def test_the_examples_of_a_module_are_true(module, driver, tmp_path, request):
    """In a process of their own, because the settings are read when the server is imported."""
    url = f"sqlite:///{tmp_path}/shop.db"
    if driver == "psycopg":
        url = request.getfixturevalue("postgres_url")
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, module],
        cwd=tmp_path,
        env={**os.environ, "DATABASE_URL": url, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
