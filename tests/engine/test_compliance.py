"""SQLAlchemy's own suite for dialects runs on `sqlite+inline` as on `sqlite+aiosqlite`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.compliance import upstream
from tests.compliance.skipped import IN_A_FILE, IN_MEMORY

pytestmark = pytest.mark.timeout(600)

SUITE = Path(__file__).parents[1] / "compliance"
URLS = {
    "aiosqlite": "sqlite+aiosqlite:///suite.db",
    "file": "sqlite+inline:///suite.db",
    "memory": "sqlite+inline:///:memory:",
}
INLINE = pytest.mark.parametrize(
    ("where", "may_be_skipped"), [("file", IN_A_FILE), ("memory", IN_MEMORY)]
)
DRIVER = re.compile(r"_sqlite\+\w+$")


@dataclass
class Results:
    """The names of tests, by how they ended."""

    passed: set[str]
    skipped: set[str]
    failed: dict[str, str]


class Run:
    """The suite in a process of its own: its plugin and ours do not go together.

    Args:
        url: of the database.
        folder: where it leaves its files.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._folder = folder
        self._report = folder / "report.xml"
        options = ["-c", SUITE / "setup.cfg", "-p", "no:cacheprovider", "-q", "--tb=short"]
        options += ["--dburi", url, "--junitxml", self._report, SUITE / "test_suite.py"]
        self._output = (folder / "output.txt").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options],
            cwd=folder,
            env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def results(self) -> Results:
        """Wait for the end, and read the report."""
        self._process.wait()
        if not self._report.exists():
            pytest.fail((self._folder / "output.txt").read_text(errors="replace"))
        return read(ET.parse(self._report))

    def end(self) -> None:
        """End it, if it still runs."""
        self._process.kill()
        self._process.wait()
        self._output.close()


def read(report: ET.ElementTree) -> Results:
    """Sort the tests of a report in JUnit's format."""
    results = Results(set(), set(), {})
    for case in report.iter("testcase"):
        suite = case.attrib["classname"].rpartition(".")[2]
        name = f"{DRIVER.sub('', suite)}.{case.attrib['name']}"
        wrong = [part.text or "" for part in case if part.tag in {"failure", "error"}]
        if wrong:
            results.failed[name] = "\n".join(wrong)
        else:
            (results.passed if case.find("skipped") is None else results.skipped).add(name)
    return results


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Results]]:
    """Run the suite on all databases at the same time."""
    begun = {name: Run(url, tmp_path_factory.mktemp(name)) for name, url in URLS.items()}
    try:
        yield {name: run.results() for name, run in begun.items()}
    finally:
        for run in begun.values():
            run.end()


@INLINE
def test_the_suite_fails_nowhere(runs: dict[str, Results], where: str, may_be_skipped: object):
    """The dialect does what SQLAlchemy expects of each."""
    assert not runs[where].failed, "\n\n".join(runs[where].failed.values())


@INLINE
def test_what_passes_with_aiosqlite_passes(
    runs: dict[str, Results], where: str, may_be_skipped: dict[str, str]
):
    """Who changes the driver gets no less, but for what the table of the suite names."""
    less = runs["aiosqlite"].passed - runs[where].passed
    assert {name.partition("[")[0] for name in less} == set(may_be_skipped)


@INLINE
def test_no_more_is_skipped_than_with_aiosqlite(
    runs: dict[str, Results], where: str, may_be_skipped: dict[str, str]
):
    """A requirement that is not met would hide what does not work."""
    more = runs[where].skipped - runs["aiosqlite"].skipped
    assert {name.partition("[")[0] for name in more} == set(may_be_skipped)


def test_the_suite_is_all_there(runs: dict[str, Results]):
    """A suite that is not found fails nowhere."""
    assert len(runs["file"].passed) > 1_000


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("journal", upstream.JOURNALS)
def test_what_passes_of_sqlalchemys_own_tests_with_aiosqlite_passes(journal: str, tmp_path: Path):
    """Those of asyncio, transactions, pools and SQLite, but for what the table of them names."""
    assert upstream.main(tmp_path, (journal,)) == 0
