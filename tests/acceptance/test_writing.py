"""One SQLite file, several processes, and the end of some of them in the middle of a write."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dbscope import Database
from tests.acceptance.writing import Base
from tests.support.look import Onlooker

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with the table."""
    made = tmp_path / "written.db"
    db = Database(f"sqlite:///{made}")
    db.ensure_schema(Base.metadata)
    db.dispose()
    return made


def start(path: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start a writer."""
    command = [sys.executable, "-W", "error", "-m", "tests.acceptance.writing", str(path)]
    pipe = subprocess.PIPE
    command += [str(each) for each in arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def acknowledged(told: str) -> list[int]:
    """Return the numbers that a writer has said; a last line may be cut off."""
    whole = told[: told.rfind("\n") + 1]
    return [int(number) for number in whole.split()]


def stored(path: Path, writer: str) -> list[int]:
    """Return what is stored of a writer; fail if a part of what it stored together is missing."""
    with Onlooker(f"sqlite:///{path}") as look:
        assert look.scalar("PRAGMA integrity_check") == "ok"
        rows = look.rows("SELECT number, of FROM written WHERE writer = ?", writer)
        assert look.write_lock_is_free()
    for together, count in Counter(of for _, of in rows).items():
        assert count % together == 0, "a transaction is there in part"
    return [number for number, _ in rows]


@pytest.mark.timeout(300)
def test_a_writer_that_is_killed_loses_nothing_that_it_was_told(path, times, figures):
    """kill -9 at any moment: what was acknowledged is there, what is there is whole."""
    count, dice, rows = times(6, 50), random.Random(9), 0
    for number in range(count):
        process = start(path, f"victim {number}", 10**6, "FULL")
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(dice.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        told, complaints = process.communicate()
        said = acknowledged(first + told)
        there = stored(path, f"victim {number}")
        assert (complaints, set(said) - set(there)) == ("", set())
        assert len(there) == len(set(there))
        rows += len(said)
    figures(f"{count} kills: {rows} rows acknowledged, 0 lost; integrity_check ok each time")


@pytest.mark.timeout(300)
def test_two_processes_write_to_one_file_and_lose_nothing(path, times, figures):
    """Neither fails: who comes second waits, without blocking its event loop."""
    count, begun = times(1_000, 10_000), time.perf_counter()
    processes = {name: start(path, name, count) for name in ("one", "two")}
    with ThreadPoolExecutor() as pool:
        ends = dict(
            zip(processes, pool.map(subprocess.Popen.communicate, processes.values()), strict=True)
        )
    for name, (told, complaints) in ends.items():
        assert (processes[name].returncode, complaints) == (0, "")
        assert sorted(acknowledged(told)) == list(range(count)), name
        assert sorted(stored(path, name)) == list(range(count)), name
    seconds = time.perf_counter() - begun
    figures(f"2 processes, {count} rows each: 0 lost, 0 errors, {seconds:.1f} s")
