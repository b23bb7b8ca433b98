"""R23: what SQLite does for long, or has to wait for, does not stall the event loop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.stalls import TASKS

ROOT = Path(__file__).resolve().parents[2]
BARS = {"p99.9": 5, "max": 25}  # milliseconds; only for a machine that has nothing else to do


@pytest.fixture
def measured(tmp_path, times, figures):
    """Run the program, and look at how late its ticks came."""

    def measure(what: str, size: float, count: int) -> dict[str, float]:
        command = [sys.executable, "-W", "error", "-m", "tests.acceptance.stalls"]
        done = subprocess.run(
            [*command, str(tmp_path / "stalls.db"), what, str(size), str(count)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        told = json.loads(done.stdout)
        figures(f"R23 {what}, {count} of {size:g}: {told}")
        is_over = {name: told[name] for name, bar in BARS.items() if told[name] > bar}
        assert not times({}, is_over)
        return told

    return measure


@pytest.mark.timeout(180)
def test_the_ticker_alone_is_in_time(measured, times):
    """R23: so figures above the bars are those of the database, not those of the machine."""
    size, count = times((0.1, 1), (1, 10))
    assert measured("nothing", size, count)["done"] == count


@pytest.mark.timeout(180)
def test_ten_tasks_at_full_speed_leave_the_loop_its_turns(measured, times):
    """R23: point reads and point writes are answered on the loop, a short while at a time."""
    count = times(50, 2_000)
    told = measured("points", 1, count)
    assert told["done"] == TASKS * count
    assert told["ticks"] > 10


@pytest.mark.timeout(180)
def test_a_long_read_stalls_nobody(measured, times):
    """R23: a read that is too long for the loop goes on in a thread."""
    size, count = times((0.2, 2), (1, 10))
    told = measured("read", size, count)
    assert told["done"] == count
    assert told["within"] > 0


@pytest.mark.timeout(180)
def test_an_insert_of_many_rows_stalls_nobody(measured, times):
    """R23: so does an insert of many rows, and its COMMIT."""
    size, count = times((10_000, 1), (100_000, 5))
    told = measured("inserting", size, count)
    assert told["done"] == size * count
    assert told["within"] > 0


@pytest.mark.timeout(180)
def test_a_checkpoint_of_a_long_log_stalls_nobody(measured, times):
    """R23: a long log is brought into the file beside those who write."""
    size, count = times((20, 1), (200, 5))
    told = measured("checkpoint", size, count)
    assert told["done"] >= size * count
    assert told["ticks"] > 10


@pytest.mark.timeout(180)
def test_a_lock_of_another_process_stalls_nobody(measured, times):
    """R23: who waits for another process to write does not wait on the loop."""
    size, count = times((0.5, 1), (2, 5))
    told = measured("locked", size, count)
    assert told["done"] == count
    assert told["work"] >= 1000 * size / 2
    assert told["within"] > 0
