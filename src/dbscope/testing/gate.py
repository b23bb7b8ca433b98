"""The gate of pytest: problems of the watch fail a test or the run, and a failure has its line.

Databases need not be named: all are watched that there are when a test begins, or after its
fixtures were made.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from dbscope.engine import forks
from dbscope.errors import ProblemFound
from dbscope.testing import baseline, sarif
from dbscope.testing.found import Found, Problems
from dbscope.watch.database import watch_of
from dbscope.watch.strict import Strict

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from dbscope.watch.problems import Problem
    from dbscope.watch.records import Record
    from dbscope.watch.watcher import Watch

ALLOW = "dbscope_allow"
OPTIONS = ("watch", "strict", "baseline", "baseline_write", "sarif")
MOST = 20  # records that a failure shows
OUTPUT = "dbscope"  # of a worker of xdist


def add_options(parser: pytest.Parser) -> None:
    """Offer the options."""
    group = parser.getgroup("dbscope")
    add = group.addoption
    add("--dbscope-watch", action="store_true", help="watch databases, and tell what was found")
    add("--dbscope-strict", action="store_true", help="fail a test in which a problem is found")
    add("--dbscope-baseline", metavar="FILE", help="fail only by problems that are not in FILE")
    add("--dbscope-baseline-write", action="store_true", help="write what was found to that FILE")
    add("--dbscope-sarif", metavar="FILE", help="write what was found as SARIF 2.1.0")
    told = "problems that are allowed, each as `pattern: reason`"
    parser.addini(ALLOW, told, type="linelist", default=[])


def configure(config: pytest.Config) -> None:
    """Look on, if any option was given."""
    told = f"{ALLOW}(pattern, *, reason): let a problem be found in this test, and say why"
    config.addinivalue_line("markers", told)
    if any(config.getoption(f"dbscope_{name}") for name in OPTIONS):
        config.pluginmanager.register(Gate(config), "dbscope_gate")


class Gate:
    """Looks on while tests run.

    Args:
        config: of pytest.

    Raises:
        UsageError: something is allowed without a reason, there is no baseline, or a file cannot be
            written.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.strict = bool(config.getoption("dbscope_strict"))
        self.problems = Problems(config.rootpath, allowed(config), self._known())
        self.is_complete = False
        if (path := self._path("sarif")) is not None:
            make_room(path)
        self.allow: dict[str, str] = {}  # in the test that runs
        self.records: list[Record] = []  # of that
        self.watched: dict[int, tuple[Watch, bool]] = {}  # by their listeners; was it on before?

    def _path(self, option: str) -> Path | None:
        file: str | None = self.config.getoption(f"dbscope_{option}")
        return None if file is None else self.config.invocation_params.dir / file

    def _known(self) -> baseline.Known | None:
        file = self._path("baseline")
        if self._writes and file is None:
            raise pytest.UsageError("--dbscope-baseline-write needs --dbscope-baseline FILE.")
        if self._writes and file is not None:
            make_room(file)
        return None if file is None or self._writes else baseline.read(file)

    @property
    def _writes(self) -> bool:
        return bool(self.config.getoption("dbscope_baseline_write"))

    # -- around a test -------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Watch all of a test, with its fixtures."""
        self.records, self.allow = [], {}
        self._watch()
        try:
            return (yield)
        finally:
            self._forget()
            for record in self.records:
                for problem in record.problems:
                    self.problems.add(problem, item.nodeid, self.allow)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Know what is allowed in a test."""
        self.allow = of_markers(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:  # noqa: ARG002
        """Raise a problem where it is found, if that was asked for."""
        self._watch()
        if not self.strict:
            return (yield)
        with ExitStack() as stack:
            for watch, _ in self.watched.values():
                if watch.is_on:
                    stack.enter_context(StrictGate(watch, self))
            result = yield
        self._raise(self.records)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, Any, Any]:
        """Raise what only the end of a fixture has shown, likewise."""
        before = len(self.records)
        result = yield
        if self.strict:
            self._raise(self.records[before:])
        return result

    def _raise(self, records: list[Record]) -> None:
        for problem in [each for record in records for each in record.problems]:
            if not self.knows(problem):
                raise ProblemFound(str(problem))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: Any) -> Generator[None, Any, Any]:
        """Show what the databases were used for, where a test has failed."""
        report = yield
        if call.excinfo is not None and report.failed and self.records:
            told = [told_of(record) for record in self.records[-MOST:]]
            report.sections.append(("what dbscope has seen", "\n".join(told)))
        return report

    def knows(self, problem: Problem) -> bool:
        """Tell whether a problem is allowed here, or known."""
        return self.problems.state(problem, self.allow) != "new"

    def _watch(self) -> None:
        sources: list[Any] = list(forks.sources)
        for source in sources:
            key = id(source.events.listeners)
            if key not in self.watched:
                watch = watch_of(source)
                self.watched[key] = (watch, watch.is_on)
                watch.start(share=False)
                watch.on_record(self.records.append)

    def _forget(self) -> None:
        for watch, was_on in self.watched.values():
            watch.forget(self.records.append)
            if not was_on:
                watch.stop()
        self.watched = {}

    # -- at the end ----------------------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker of xdist has found."""
        for told in getattr(node, "workeroutput", {}).get(OUTPUT, []):
            self.problems.take(Found.of(told))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the files, and fail the run by what is new."""
        output: dict[str, Any] | None = getattr(self.config, "workeroutput", None)
        if output is not None:
            output[OUTPUT] = [found.told() for found in self.problems.all()]
            return
        file, path = self._path("baseline"), self._path("sarif")
        self.is_complete = has_run(session)
        if self._writes and file is not None and self.is_complete:
            baseline.write(file, self.problems.all())
        if path is not None:
            sarif.write(path, self.problems.all(), has_baseline=file is not None)
        is_gate = file is not None and not self._writes
        if is_gate and self.problems.new() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Tell what was found."""
        found = self.problems.all()
        if self._writes and not self.is_complete:
            terminalreporter.write_line("The baseline is as it was: not all tests were run.")
        if not found or hasattr(self.config, "workeroutput"):
            return
        terminalreporter.section("what dbscope has found")
        for each in self.problems.new():
            terminalreporter.write_line(str(each))
        kinds = {
            state: sum(each.state == state for each in found) for state in ("known", "allowed")
        }
        more = ", ".join(f"{number} {state}" for state, number in kinds.items() if number)
        terminalreporter.write_line(f"{len(self.problems.new())} new{', ' if more else ''}{more}")


class StrictGate(Strict):
    """Raises what the gate does not know."""

    def __init__(self, watch: Watch, gate: Gate) -> None:
        super().__init__(watch, {})
        self._gate = gate

    def allows(self, problem: Problem) -> bool:
        """Tell whether it is known, or allowed in this test."""
        return self._gate.knows(problem)


def make_room(path: Path) -> None:
    """Make the folder of a file that is to be written.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise pytest.UsageError(f"{path} cannot be written: {error}.") from error
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise pytest.UsageError(f"{path} cannot be written.")


def has_run(session: pytest.Session) -> bool:
    """Tell whether all tests that were asked for have run, whatever their outcome."""
    ended = session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    is_cut = session.shouldfail or session.shouldstop or session.config.option.collectonly
    return ended and not is_cut


def allowed(config: pytest.Config) -> dict[str, str]:
    """Return what is allowed everywhere, with the reasons."""
    lines: list[str] = config.getini(ALLOW)
    found = [line.partition(": ") for line in lines]
    for pattern, _, reason in found:
        if not reason.strip():
            raise pytest.UsageError(f"{ALLOW}: {pattern!r} needs a reason: `{pattern}: why`.")
    return {pattern.strip(): reason.strip() for pattern, _, reason in found}


def of_markers(item: pytest.Item) -> dict[str, str]:
    """Return what is allowed in a test, which fails where that is not said as it should be."""
    allow: dict[str, str] = {}
    for mark in item.iter_markers(ALLOW):
        reason = mark.kwargs.get("reason")
        if len(mark.args) != 1 or not reason:
            pytest.fail(f"{ALLOW} needs a pattern, and a reason=.", pytrace=False)
        allow[str(mark.args[0])] = str(reason)
    return allow


def told_of(record: Record) -> str:
    """Return the line of a record, behind what it is of."""
    answer = "" if record.status is None else f" -> {record.status}"
    return f"{record.name}{answer}: {record}"
