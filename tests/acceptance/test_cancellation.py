"""R1, R3: requests are cancelled at random moments, thousands of them."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.drivers import on_all
from tests.support import warm
from tests.support.processes import bar

ROOT = Path(__file__).resolve().parents[2]
END = bar(2)  # seconds that the process may take to end
# What drivers say about a connection that is closed in the middle of a query; it is meant to be.
OF_DRIVERS = {
    "query cancellation interrupted (CancelledError): closing connection",
}


def run_storm(url: str, count: int, clean: int, where: str) -> dict[str, Any]:
    """Run the program; it must end in time, and have nothing to complain about."""
    command = [sys.executable, "-W", "error", "-m", "tests.acceptance.storm"]
    done = warm.run([*command, url, str(count), str(clean), where], cwd=ROOT, timeout=600)
    complaints = [line for line in done.stderr.splitlines() if line not in OF_DRIVERS]
    assert (done.returncode, complaints) == (0, [])
    told = json.loads(done.stdout)
    told["ended in"] = round(time.time() - told.pop("ended at"), 2)
    assert told["ended in"] <= END
    return told


@on_all
@pytest.mark.timeout(600)
def test_a_storm_of_cancellations_leaves_nothing_behind(url, times, figures):
    """R1: nothing leaks, nothing is lost, and a row is there exactly if its COMMIT was sent."""
    figures(f"R1 {run_storm(url, times(200, 2000), times(200, 1000), 'without')}")


@on_all
@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.timeout(600)
def test_a_middleware_with_a_task_of_its_own_changes_nothing(url, where, times, figures):
    """R3: the same with a `BaseHTTPMiddleware`, which runs the endpoint in a child task."""
    figures(f"R3 {run_storm(url, times(96, 1000), times(50, 200), where)}")
