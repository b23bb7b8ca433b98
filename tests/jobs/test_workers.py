"""What becomes of a job: real brokers, real workers, and a look at the database afterwards."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.apps.work import CASES
from tests.jobs.conftest import table_of_the_guide
from tests.jobs.systems import SYSTEMS, System
from tests.jobs.workers import ROOT, Worker
from tests.support import warm
from tests.support.look import Onlooker, until
from tests.support.processes import bar

pytestmark = pytest.mark.timeout(300)


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

    def told(self) -> str:
        """Return what its workers have printed."""
        return self.log.read_text(errors="replace")

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


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_job_is_stored_and_run_as_often_as_the_guide_says(
    name: str, jobs_urls: Callable[[], str], tmp_path: Path, services: Any, made: Any
) -> None:
    """Rows stored / runs, and what the broker has left when the worker has stopped.

    Most of it is waiting, so all cases of a system are tried at once, each in a field of its own.
    """
    services.require(*SYSTEMS[name].services)
    told = dict(zip(CASES, table_of_the_guide()[name], strict=True))
    fields = {case: Field(jobs_urls(), tmp_path / case) for case in CASES}
    with ThreadPoolExecutor(len(CASES)) as pool:
        found = pool.map(lambda case: tried(SYSTEMS[name], case, told[case], fields[case]), CASES)
        became = dict(zip(CASES, found, strict=True))
    made[name] = became
    logs = [fields[case].told()[-6000:] for case in CASES]
    assert became == told, "\n".join(logs)
    for field_of_case in fields.values():
        messages = field_of_case.messages()
        assert len(set(messages)) <= 1, "each delivery has the same id"
        assert ("scope" in name) or None not in messages


def tried(system: System, case: str, told: str, place: Field) -> str:
    """Send a job, let a worker do it, and return what became of it."""
    place.folder.mkdir()
    rows, _, rest = told.partition("/")
    runs, _, left = rest.partition(": ")
    where = place.queue if system.services else place.url
    try:
        if not system.ready:
            send(system, case, place.env)
        with Worker(system.command, place.env, place.log):
            if system.ready:
                is_up = until(lambda: system.ready in place.told(), bar(60))
                assert is_up, place.told()
                send(system, case, place.env)
            until(lambda: place.runs() >= int(runs), bar(60))
            until(lambda: system.left(where) == left, bar(60))
            until(lambda: len(place.messages()) >= int(rows), bar(60))  # it may have just begun
        is_left = system.left(where)
    finally:
        system.forget(place.queue)
    became = f"{len(place.messages())}/{place.runs()}"
    return f"{became}: {is_left}" if is_left else became


@pytest.mark.parametrize(("case", "status", "rows"), [("success", 0, 1), ("commit", 1, 0)])
def test_a_command_fails_if_its_commit_does(case, status, rows, place):
    """Cron and Kubernetes see its exit status."""
    command = [sys.executable, "-m", "tests.jobs.apps.on_cron", case]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | place.env, check=False)
    assert (done.returncode, len(place.messages())) == (status, rows)


def send(system: System, case: str, env: dict[str, str]) -> None:
    """Send a job from a process of its own."""
    command = [sys.executable, "-m", f"tests.jobs.apps.{system.app}", case, *system.arguments]
    done = warm.run(command, cwd=ROOT, env={**os.environ, **env}, timeout=bar(60))
    assert done.returncode == 0, done.stderr
