"""SQLAlchemy's own tests, from its source distribution, on `sqlite+inline` and on aiosqlite.

    python -m tests.compliance.upstream [folder]

The distribution of the installed version is got with pip, and kept in the folder. What fails on
`sqlite+inline` and not on aiosqlite is an error, unless `skipped.py` names it with its reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import sqlalchemy

from tests.support.certificates import outside

ROOT = Path(__file__).parents[2]
# Each in a process of its own: test_pool forgets all listeners of the class, and so the journal.
TESTS = (
    (
        "test/ext/asyncio",
        "test/engine/test_transaction.py",
        "test/dialect/sqlite",  # until 2.0: test/dialect/test_sqlite.py
        "test/dialect/test_sqlite.py",
    ),
    ("test/engine/test_pool.py",),
)
JOURNALS = ("wal", "delete")
ENDS = ("skipped", "passed", "failed")


def source(folder: Path) -> Path:
    """Return the folder of SQLAlchemy's source distribution, of the version that is installed.

    Raises:
        CalledProcessError: it cannot be had.
    """
    version = sqlalchemy.__version__
    found = folder / f"sqlalchemy-{version}"
    if not found.exists():
        options = ["--quiet", "--no-deps", "--no-binary", "sqlalchemy", "--dest", str(folder)]
        wanted = f"sqlalchemy=={version}"
        pip = [sys.executable, "-m", "pip", "download"]
        subprocess.run([*pip, *options, wanted], check=True, env=outside())
        (archive,) = folder.glob(f"[sS][qQ][lL][aA]lchemy-{version}.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        (folder / archive.name.removesuffix(".tar.gz")).rename(found)
    return found


def run(tests: Path, driver: str, journal: str) -> dict[str, str]:
    """Run the tests.

    Returns:
        How each ended: passed, skipped or failed.
    """
    ended: dict[str, str] = {}
    for number, chosen in enumerate(TESTS):
        report = tests.parent / f"{driver}-{journal}-{number}.xml"
        run_process(tests, f"sqlite+{driver}:///{driver}-{journal}.db", journal, chosen, report)
        ended |= read(ET.parse(report))
    return ended


def run_process(tests: Path, url: str, journal: str, chosen: tuple[str, ...], report: Path) -> None:
    """Run these files, and leave a report in JUnit's format."""
    options = ["-p", "tests.compliance.journal", "-p", "no:cacheprovider", "-q", "--tb=short"]
    options += ["--dburi", url, "--junitxml", str(report)]
    with report.with_suffix(".txt").open("w") as output:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                *options,
                *[each for each in chosen if (tests / each).exists()],
            ],
            cwd=tests,
            env=os.environ
            | {
                "JOURNAL": journal,
                "PYTEST_ADDOPTS": "",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PYTHONPATH": str(ROOT),
            },
            check=False,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def read(report: ET.ElementTree[Any]) -> dict[str, str]:
    """Return the name of each test, without its parameters, and the worst of its ends."""
    worst: dict[str, str] = {}
    for case in report.iter("testcase"):
        group = case.attrib["classname"].rpartition(".")[2].partition("_sqlite+")[0]
        name = f"{group}.{case.attrib['name'].partition('[')[0]}"
        ended = end_of({part.tag for part in case})
        worst[name] = max(ended, worst.get(name, ended), key=ENDS.index)
    return worst


def end_of(parts: set[str]) -> str:
    """Return how a test ended that has these parts in its report."""
    if parts & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in parts else "passed"


def compare(folder: Path, journal: str) -> set[str]:
    """Run on both drivers, and say what came of it.

    Returns:
        What passes on aiosqlite only.
    """
    tests = source(folder)
    ended = {driver: run(tests, driver, journal) for driver in ("aiosqlite", "inline")}
    for driver, results in ended.items():
        counts = {how: list(results.values()).count(how) for how in ENDS}
        sys.stdout.write(f"{driver} {journal} {counts}\n")
    return {
        name
        for name, how in ended["aiosqlite"].items()
        if how == "passed" and ended["inline"].get(name) != "passed"
    }


def main(folder: Path, journals: tuple[str, ...] = JOURNALS) -> int:
    """Compare for each journal; name each difference, with its reason."""
    from tests.compliance.skipped import UPSTREAM

    unknown = 0
    for journal in journals:
        for name in sorted(compare(folder, journal)):
            reason = UPSTREAM[journal].get(name)
            unknown += reason is None
            sys.stdout.write(f"  {name}: {reason or 'NOT KNOWN'}\n")
            sys.stdout.flush()
    return unknown


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())))
