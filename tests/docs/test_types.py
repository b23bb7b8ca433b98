"""The Python of the documents is what strict type checkers take for right."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.typed import HELPERS, write

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Besides the settings of the project: with the same ones its cache can be used, and most is done.
MYPY = """
[[tool.mypy.overrides]]
module = ["apscheduler.*"]
ignore_missing_imports = true

[[tool.mypy.overrides]]
module = ["docs_how_to_jobs.*"]
disallow_untyped_decorators = false

[[tool.mypy.overrides]]
module = ["docs_errors.*"]
warn_unreachable = false # what comes after an error that is shown
"""
# Celery and APScheduler have no types, so the page about jobs cannot be strict about theirs.
UNTYPED = {
    "root": "docs_how_to_jobs",
    "extraPaths": [".", str(ROOT / "src")],
    "reportFunctionMemberAccess": False,
    "reportMissingTypeStubs": False,
    "reportUnknownMemberType": False,
    "reportUntypedFunctionDecorator": False,
}
PYRIGHT = {
    "typeCheckingMode": "strict",
    "extraPaths": [str(ROOT / "src")],
    "reportUnusedImport": False,  # of what stands for `await`
    "executionEnvironments": [UNTYPED, {"root": "."}],
}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a package for each document."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "helpers.py").write_text(HELPERS, encoding="utf-8")
    for document in DOCUMENTS:
        name = document.relative_to(ROOT).with_suffix("").as_posix()
        write(document, folder / re.sub(r"\W", "_", name.lower()))
    return folder


def check(*command: str, folder: Path) -> str:
    """Run a type checker once for all of them; return what it complains of."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | {"MYPYPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_the_documents_pass_pyright(modules: Path) -> None:
    """In its strict mode, as editors show it."""
    pytest.importorskip("pyright")
    (modules / "pyrightconfig.json").write_text(json.dumps(PYRIGHT), encoding="utf-8")
    complaints = check(
        "pyright", "--pythonpath", sys.executable, "--project", str(modules), folder=modules
    )
    assert complaints == ""


@pytest.mark.timeout(300)
def test_the_documents_pass_mypy(modules: Path) -> None:
    """In its strict mode, too."""
    pytest.importorskip("mypy")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    settings = project[project.index("[tool.mypy]") : project.index("[tool.pyright]")]
    (modules / "pyproject.toml").write_text(settings + MYPY, encoding="utf-8")
    assert "strict = true" in settings
    # That of `dev.py lint`, where nobody runs it at the same time.
    cache = ROOT / ".mypy_cache" / ("" if os.environ.get("CI") else "documents")
    assert check("mypy", "--cache-dir", str(cache), ".", folder=modules) == ""
