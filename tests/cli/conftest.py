"""The fixture `project`: an application on SQLite in an empty folder, which is the working one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.project import Project, imports_restored


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Return it; what it imports is forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    made = Project(tmp_path)
    with imports_restored():
        yield made
    made.forget()
