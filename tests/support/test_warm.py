"""A program that starts in a warm process is like one that has started by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import warm

BOTH = (subprocess.Popen, warm.Popen)
STARTERS = pytest.mark.parametrize("start", BOTH)


def told(start: type[subprocess.Popen[str]], code: str, *arguments: str, folder: Path) -> list[str]:
    """Run some code, and return its lines, its complaints and its status."""
    with start(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=folder,
        env=os.environ | {"WHO": "me"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        printed, complaint = process.communicate(timeout=60)
    return [*printed.splitlines(), *complaint.splitlines()[-1:], str(process.returncode)]


@pytest.mark.parametrize(
    "what",
    [
        "os.getppid()",
        "os.getsid(0)",
        "sys.path",
        "sys.warnoptions",
        "[each for each in ('server', 'tests') if each in sys.modules]",
        "__name__, sys.modules['__main__'].__dict__ is globals()",
        "sys.pycache_prefix, sys.dont_write_bytecode",
        "__import__('threading').active_count()",
        "__import__('warnings').warn('old')",
        "sys.exit(3)",
        "os.kill(os.getpid(), 9)",
        "__import__('atexit').register(print, 'over')",
        "sys.stdin.read()",
        "sorted(map(int, os.listdir('/proc/self/fd')))[:3]",
        "__import__('signal').getsignal(2).__name__",
        "1 / 0",
    ],
)
def test_it_is_what_it_would_be(what: str, tmp_path: Path) -> None:
    """Whose child it is, where it looks for modules, what is not imported yet, how it ends."""
    code = f"import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['WHO'], {what})"
    cold, its = (told(each, code, "a", folder=tmp_path) for each in BOTH)
    assert its == cold


@STARTERS
def test_it_is_killed_and_waited_for(start: type[subprocess.Popen[str]]) -> None:
    """As the children of a process are."""
    process = start([sys.executable, "-c", "import time; time.sleep(60)"])
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL


@STARTERS
def test_it_may_have_a_session_of_its_own(start: type[subprocess.Popen[str]]) -> None:
    """So that Ctrl-C does not reach it."""
    code = "import os; print(os.getsid(0) == os.getpid())"
    command = [sys.executable, "-c", code]
    with start(command, start_new_session=True, stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate(timeout=60)[0] == "True\n"


def test_a_module_is_run_and_what_it_prints_is_given() -> None:
    """As `python -m` does."""
    command = [sys.executable, "-m", "alembic", "nothing"]
    cold = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    its = warm.run(command, timeout=60)
    assert (its.returncode, its.stdout, its.stderr) == (cold.returncode, cold.stdout, cold.stderr)
