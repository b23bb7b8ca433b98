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
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import sqlalchemy

ROOT = Path(__file__).parents[2]
TESTS = (
    "test/ext/asyncio",
    "test/engine/test_transaction.py",
    "test/engine/test_pool.py",
    "test/dialect/sqlite",  # until 2.0: test/dialect/test_sqlite.py
    "test/dialect/test_sqlite.py",
)
JOURNALS = ("wal", "delete")


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
        subprocess.run([sys.executable, "-m", "pip", "download", *options, wanted], check=True)
        (archive,) = folder.glob(f"[sS][qQ][lL][aA]lchemy-{version}.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        (folder / archive.name.removesuffix(".tar.gz")).rename(found)
    return found


def run(tests: Path, driver: str, journal: str) -> dict[str, str]:
    """Run the tests in a process of their own.

    Returns:
        How each ended: passed, skipped or failed.
    """
    name = f"{driver}-{journal}"
    report = tests.parent / f"{name}.xml"
    options = ["-p", "tests.compliance.journal", "-p", "no:cacheprovider", "-q", "--tb=short"]
    options += ["--dburi", f"sqlite+{driver}:///{name}.db", "--junitxml", str(report)]
    chosen = [test for test in TESTS if (tests / test).exists()]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, *chosen],
        cwd=tests,
        env=os.environ
        | {
            "JOURNAL": journal,
            "PYTEST_ADDOPTS": "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(ROOT),
        },
        check=False,
        stdout=(tests.parent / f"{name}.txt").open("w"),
    )
    return dict(read(ET.parse(report)))


def read(report: ET.ElementTree) -> Iterator[tuple[str, str]]:
    """Go through a report in JUnit's format: the name of each test, and how it ended."""
    for case in report.iter("testcase"):
        group = case.attrib["classname"].rpartition(".")[2].partition("_sqlite+")[0]
        parts = {part.tag for part in case}
        ended = "failed" if parts & {"failure", "error"} else "passed"
        name = case.attrib["name"].partition("[")[0]
        yield f"{group}.{name}", "skipped" if "skipped" in parts else ended


def compare(folder: Path, journal: str) -> set[str]:
    """Run on both drivers, and say what came of it.

    Returns:
        What passes on aiosqlite only.
    """
    tests = source(folder)
    ended = {driver: run(tests, driver, journal) for driver in ("aiosqlite", "inline")}
    for driver, results in ended.items():
        counts = {how: list(results.values()).count(how) for how in ("passed", "failed", "skipped")}
        sys.stdout.write(f"{driver} {journal} {counts}\n")
    return {
        name
        for name, how in ended["aiosqlite"].items()
        if how == "passed" and ended["inline"].get(name) != "passed"
    }


def main(folder: Path) -> int:
    """Compare for each journal; name each difference, with its reason."""
    from tests.compliance.skipped import UPSTREAM

    unknown = 0
    for journal in JOURNALS:
        for name in sorted(compare(folder, journal)):
            reason = UPSTREAM[journal].get(name)
            unknown += reason is None
            sys.stdout.write(f"  {name}: {reason or 'NOT KNOWN'}\n")
    return unknown


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())))
