"""Libraries that commit by themselves: what they do with our session, and whose line is named."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "libraries.py"

pytestmark = pytest.mark.timeout(180)


def line_of(word: str) -> int:
    """Return the number of the program's line that ends with the comment."""
    lines = PROGRAM.read_text(encoding="utf-8").splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith(f"# {word}"))


@pytest.mark.parametrize("driver", ["sqlite", "postgresql+psycopg", "postgresql+asyncpg"])
def test_libraries_commit_outside_of_blocks_and_are_named_inside(
    driver: str, python: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """fastcrud, fastapi-users and sqladmin: the error names their line, and the application's."""
    if driver == "sqlite":
        url = f"sqlite:///{tmp_path}/app.db"
    else:
        url = request.getfixturevalue("postgres_url").replace("postgresql+psycopg", driver, 1)
    done = subprocess.run(
        [python, "-m", "tests.tools.libraries", url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert "fastcrud/crud/fast_crud.py:" in told["fastcrud"]
    assert f"libraries.py:{line_of('fastcrud')}." in told["fastcrud"]
    assert "fastapi_users_db_sqlalchemy/__init__.py:" in told["fastapi_users"]
    assert f"libraries.py:{line_of('fastapi-users')}." in told["fastapi_users"]
    assert told["things"] == ["kept", "with the block"]
    assert told["users"] == ["kept@example.org"]
    assert told["admin"] == ["by admin"]
