"""What becomes of a job: real brokers, real workers, and a look at the database afterwards."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.jobs.apps.work import CASES
from tests.jobs.conftest import table_of_the_guide
from tests.jobs.systems import SYSTEMS, System
from tests.jobs.workers import ROOT, Worker
from tests.support.look import Onlooker, until
from tests.support.processes import bar

pytestmark = pytest.mark.timeout(200)


@dataclass
class Field:
    """Where a job is tried: a database with tables, a queue of its own, a file that counts runs."""

    url: str
    folder: Path
    queue: str = field(default_factory=lambda: f"dbscope-{secrets.token_hex(4)}")

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def env(self) -> dict[str, str]:
        """What workers and senders are told."""
        runs = str(self.folder / "runs")
        return {"JOBS_DATABASE": self.url, "JOBS_QUEUE": self.queue, "JOBS_RUNS": runs}

    def runs(self) -> int:
        """Return how often a job was begun."""
        counted = self.folder / "runs"
        return len(counted.read_text().split()) if counted.exists() else 0

    def messages(self) -> list[str | None]:
        """Return what the messages are called whose rows are stored."""
        with Onlooker(self.url) as look:
            return [name for (name,) in look.rows("SELECT message FROM stored")]


@pytest.fixture
def place(jobs_url: str, tmp_path: Path) -> Field:
    return Field(jobs_url, tmp_path)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_job_is_stored_and_run_as_often_as_the_guide_says(name, case, place, services, made):
    """Rows stored / runs, and what the broker has left when the worker has stopped."""
    system = SYSTEMS[name]
    services.require(*system.services)
    told = table_of_the_guide()[name][list(CASES).index(case)]
    rows, _, rest = told.partition("/")
    runs, _, left = rest.partition(": ")
    where = place.queue if system.services else place.url
    try:
        send(system, case, place.env)
        with Worker(system.command, place.env, place.log):
            until(lambda: place.runs() >= int(runs), bar(60))
            until(lambda: system.left(where) == left, bar(60))
            until(lambda: len(place.messages()) >= int(rows), bar(60))  # it may have just begun
        is_left = system.left(where)
    finally:
        system.forget(place.queue)
    messages = place.messages()
    what = f"{len(messages)}/{place.runs()}" + (f": {is_left}" if is_left else "")
    made.setdefault(name, {})[case] = what
    assert what == told, place.log.read_text(errors="replace")[-6000:]
    assert len(set(messages)) <= 1, "each delivery has the same id"
    assert ("scope" in name) or None not in messages


@pytest.mark.parametrize(("case", "status", "rows"), [("success", 0, 1), ("commit", 1, 0)])
def test_a_command_fails_if_its_commit_does(case, status, rows, place):
    """Cron and Kubernetes see its exit status."""
    command = [sys.executable, "-m", "tests.jobs.apps.on_cron", case]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | place.env, check=False)
    assert (done.returncode, len(place.messages())) == (status, rows)


def send(system: System, case: str, env: dict[str, str]) -> None:
    """Send a job from a process of its own."""
    command = [sys.executable, "-m", f"tests.jobs.apps.{system.app}", case, *system.arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
