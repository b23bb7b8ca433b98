"""The gate of pytest: in a project of its own, as its users have it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import PYTEST
from tests.testing.test_plugin import run

pytestmark = pytest.mark.timeout(400)  # each runs pytest several times

SHOP = """
import os
from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from dbscope import Database

class Base(DeclarativeBase): ...

class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    lines: Mapped[list["Line"]] = relationship()

class Line(Base):
    __tablename__ = "order_lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))

db = Database(f"sqlite:///{folder}/{{os.getpid()}}.db")
db.ensure_schema(Base.metadata)
with db.scope():
    db.session.add_all([Order(lines=[Line()]) for _ in range(4)])
db.dispose()

def totals():
    with db.scope():
        orders = db.scalars(select(Order)).all()  # parents
        return [len(order.lines) for order in orders]
"""
TESTS = """
import pytest
from sqlalchemy import select
from shop import Order, db, totals

@pytest.fixture(autouse=True)
def closed():
    yield
    db.dispose()

def test_one():
    assert totals() == [1, 1, 1, 1]

def test_other():
    with db.scope():
        db.scalars(select(Order.id)).all()
"""
PROBLEM = "N+1: Order.lines, 4 times at shop.py:28; add `.options(selectinload(Order.lines))`"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with an N+1 in one of two tests."""
    (tmp_path / "shop.py").write_text(SHOP.format(folder=tmp_path))
    (tmp_path / "test_shop.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    return tmp_path


def log_of(project: Path) -> Any:
    """Return the SARIF that was written, if it has what the schema requires."""
    log = json.loads((project / "out.sarif").read_text())
    check_sarif(log)
    return log["runs"][0]


def check_sarif(log: Any) -> None:
    """Fail unless a log has what the schema of SARIF 2.1.0 requires, and nothing else in its place.

    https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json: `required` of
    each object, the enumerations, and the least number of a line.
    """
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    for part in log["runs"]:
        driver = part["tool"]["driver"]
        assert driver["name"]
        assert part["columnKind"] in {"utf16CodeUnits", "unicodeCodePoints"}
        rules = [rule["id"] for rule in driver["rules"]]
        assert len(set(rules)) == len(rules)
        assert all(rule["shortDescription"]["text"] for rule in driver["rules"])
        for result in part["results"]:
            check_result(result, rules)
        assert len({"baselineState" in result for result in part["results"]}) < 2  # all, or none


def check_result(result: Any, rules: list[str]) -> None:
    """Fail unless it is a result."""
    assert result["message"]["text"]
    assert result["level"] in {"none", "note", "warning", "error"}
    assert rules[result["ruleIndex"]] == result["ruleId"]
    assert result.get("baselineState", "new") in {"new", "unchanged", "updated", "absent"}
    assert all(isinstance(each, str) for each in result["partialFingerprints"].values())
    for each in result.get("suppressions", []):
        assert each["kind"] in {"inSource", "external"}
    for where in [*result.get("locations", []), *result.get("relatedLocations", [])]:
        place = where["physicalLocation"]
        assert place["artifactLocation"]["uri"]
        assert "\\" not in place["artifactLocation"]["uri"]
        assert place["region"]["startLine"] >= 1


def test_nothing_is_looked_at_unless_asked(project: Path) -> None:
    """A project that does not use it pays nothing, and hears nothing."""
    told = run(project)
    assert "2 passed" in told
    assert "dbscope has" not in told


def test_what_is_found_is_told_at_the_end(project: Path) -> None:
    """With the remedy, at the line of the query that has loaded the parents."""
    told = run(project, "--dbscope-watch")
    assert "2 passed" in told
    assert f"{PROBLEM} at shop.py:27 (test_shop.py::test_one)" in told
    assert "\n1 new\n" in told


def test_a_problem_fails_its_test_where_it_happens(project: Path) -> None:
    """And the failure shows what the database was used for."""
    told = run(project, "--dbscope-strict")
    assert "1 failed, 1 passed" in told
    assert "ProblemFound: N+1: Order.lines, 3 times at shop.py:28" in told
    assert "what dbscope has seen" in told
    assert "the scope opened at shop.py:26: rolled back, ProblemFound raised at shop.py:28" in told


@pytest.mark.parametrize("how", ["setting", "marker"])
def test_a_problem_is_allowed_with_a_reason(project: Path, how: str) -> None:
    """Everywhere by a setting, in one test by a marker."""
    if how == "setting":
        with (project / "pytest.ini").open("a") as file:
            file.write("dbscope_allow =\n    Order.lines: four at most\n")
    else:
        mark = '@pytest.mark.dbscope_allow("Order.lines", reason="four at most")\n'
        tests = TESTS.replace("def test_one", f"{mark}def test_one")
        (project / "test_shop.py").write_text(tests)
    told = run(project, "--dbscope-strict", "--dbscope-sarif", "out.sarif")
    assert "2 passed" in told
    assert "0 new, 1 allowed" in told
    (result,) = log_of(project)["results"]
    assert result["suppressions"] == [{"kind": "external", "justification": "four at most"}]


def test_a_mark_without_a_reason_fails_its_test_alone(project: Path) -> None:
    """Where several workers run them, too."""
    mark = '@pytest.mark.dbscope_allow("Order.lines")\n'
    (project / "test_shop.py").write_text(TESTS.replace("def test_one", f"{mark}def test_one"))
    for workers in ("-n0", "-n2"):
        told = run(project, "--dbscope-watch", workers)
        assert "1 passed, 1 error" in told
        assert "dbscope_allow needs a pattern, and a reason=." in told


def test_without_a_reason_nothing_is_allowed(project: Path) -> None:
    """The reason is for who reads it in a year."""
    with (project / "pytest.ini").open("a") as file:
        file.write("dbscope_allow =\n    Order.lines\n")
    assert "'Order.lines' needs a reason" in run(project, "--dbscope-strict")


BASELINE = ("--dbscope-baseline", "known.json")


def test_what_is_in_the_baseline_passes(project: Path) -> None:
    """Though lines have moved."""
    assert "--dbscope-baseline-write makes it" in run(project, *BASELINE)
    assert "2 passed" in run(project, *BASELINE, "--dbscope-baseline-write")
    known = json.loads((project / "known.json").read_text())
    assert known["problems"] == [{"kind": "N+1", "what": "Order.lines", "file": "shop.py"}]
    shop = (project / "shop.py").read_text()
    (project / "shop.py").write_text(f"\n\n{shop}")
    assert "0 new, 1 known" in run(project, *BASELINE, "--dbscope-strict")


def test_what_is_not_in_the_baseline_fails_the_run(project: Path) -> None:
    """Though each test has passed."""
    (project / "known.json").write_text(
        json.dumps({"problems": [{"kind": "N+1", "what": "Order.lines", "file": "shop.py"}]})
    )
    (project / "test_shop.py").write_text(
        TESTS + "\ndef test_new():\n    with db.scope():\n        for id in range(1, 5):\n"
        "            db.get_by_pk(Order, id)\n"
    )
    code, told = run_code(project, *BASELINE, "--dbscope-sarif", "out.sarif")
    assert "3 passed" in told
    assert "1 new, 1 known" in told
    assert code == pytest.ExitCode.TESTS_FAILED
    states = {each["baselineState"] for each in log_of(project)["results"]}
    assert states == {"new", "unchanged"}


def run_code(project: Path, *arguments: str, folder: str = ".") -> tuple[int, str]:
    """Return the exit code of a run, and what it says."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(project), *sys.path])}
    command = [*PYTEST, "-q", *arguments]
    done = subprocess.run(
        command, cwd=project / folder, env=environment, check=False, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("folder", [".", "tests"])
def test_the_baseline_and_sarif_are_those_of_the_project(project: Path, folder: str) -> None:
    """Wherever a run is started: files are called as they are below the root of pytest."""
    (project / "tests").mkdir()
    known = [{"kind": "N+1", "what": "Order.lines", "file": "shop.py"}]
    (project / "known.json").write_text(json.dumps({"problems": known}))
    baseline, sarif = project / "known.json", project / "new" / "out.sarif"
    files = ("--dbscope-baseline", str(baseline), "--dbscope-sarif", str(sarif))
    code, told = run_code(project, *files, str(project / "test_shop.py"), folder=folder)
    assert (code, "0 new, 1 known" in told) == (0, True)
    assert '"uri": "shop.py"' in sarif.read_text()


def test_what_is_known_and_what_is_allowed_are_both_in_sarif(project: Path) -> None:
    """With a state of each, as SARIF wants it as soon as one of them has it."""
    (project / "known.json").write_text(json.dumps({"problems": []}))
    mark = '@pytest.mark.dbscope_allow("Order.lines", reason="four at most")\n'
    tests = TESTS.replace("def test_one", f"{mark}def test_one")
    (project / "test_shop.py").write_text(tests + "\ndef test_new():\n    totals()\n")
    run(project, *BASELINE, "--dbscope-sarif", "out.sarif")
    states = [each["baselineState"] for each in log_of(project)["results"]]
    assert sorted(states) == ["new", "unchanged"]


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"[" * 100_000, b'{"version": 2, "problems": []}', None]
)
def test_what_is_no_baseline_is_refused_in_a_sentence(project: Path, content: bytes | None) -> None:
    """Broken, of a later version, or a folder."""
    path = project / "known.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    code, told = run_code(project, *BASELINE)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {path} " in told
    assert "INTERNALERROR" not in told


def test_a_file_that_cannot_be_written_is_told_before_the_tests(project: Path) -> None:
    """And not by a traceback after them."""
    (project / "taken").mkdir()
    code, told = run_code(project, "--dbscope-sarif", "taken")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {project / 'taken'} cannot be written." in told


@pytest.mark.parametrize("how", [["--collect-only"], ["nothing.py"], ["-x"], ["test_broken.py"]])
def test_a_run_that_is_not_whole_leaves_the_baseline(project: Path, how: list[str]) -> None:
    """It would forget all that it has not seen."""
    (project / "test_broken.py").write_text("import nothing_of_it\n")
    (project / "test_shop.py").write_text(TESTS + "\ndef test_bad():\n    assert 0\n")
    (project / "known.json").write_text("as it was")
    _, told = run_code(project, *BASELINE, "--dbscope-baseline-write", *how)
    assert "The baseline is as it was: not all tests were run." in told
    assert (project / "known.json").read_text() == "as it was"


def test_a_problem_in_the_end_of_a_fixture_fails_too(project: Path) -> None:
    """It is a part of its test."""
    (project / "test_shop.py").write_text(
        "import pytest, shop\n"
        "@pytest.fixture\ndef late():\n    yield\n    shop.totals()\n"
        "def test_it(late):\n    pass\n"
    )
    told = run(project, "--dbscope-strict")
    assert "1 passed, 1 error" in told
    assert "ProblemFound: N+1: Order.lines" in told


def test_sarif_names_both_lines(project: Path) -> None:
    """The one of the remedy, and the one where it happens; relative to the project."""
    run(project, "--dbscope-sarif", "out.sarif")
    (result,) = log_of(project)["results"]
    assert result["ruleId"] == "n-plus-1"
    (first,), (second,) = result["locations"], result["relatedLocations"]
    assert first["physicalLocation"] == {
        "artifactLocation": {"uri": "shop.py"},
        "region": {"startLine": 27},
    }
    assert second["physicalLocation"]["region"]["startLine"] == 28


def test_workers_of_xdist_tell_what_they_have_found(project: Path) -> None:
    """One file of all of them."""
    told = run(project, "-n2", "--dbscope-sarif", "out.sarif")
    assert "2 passed" in told
    assert "1 new" in told
    assert len(log_of(project)["results"]) == 1


def test_a_database_that_a_fixture_makes_is_watched(project: Path) -> None:
    """It was not there when the run began; and a test may stop the watch itself."""
    (project / "test_shop.py").write_text(
        "import pytest, shop\nfrom dbscope import Database\n"
        "@pytest.fixture\ndef own(tmp_path):\n"
        "    shop.db.dispose()\n    shop.db = db = Database(f'sqlite:///{tmp_path}/b.db')\n"
        "    db.ensure_schema(shop.Base.metadata)\n"
        "    with db.scope():\n"
        "        db.session.add_all([shop.Order(lines=[shop.Line()]) for _ in range(4)])\n"
        "    yield db\n    db.dispose()\n"
        "def test_it(own):\n    shop.totals()\n"
        "def test_stop(own):\n    own.watch.stop()\n    shop.totals()\n"
    )
    told = run(project, "--dbscope-strict")
    assert "1 failed, 1 passed" in told
    assert "ProblemFound: N+1: Order.lines" in told
