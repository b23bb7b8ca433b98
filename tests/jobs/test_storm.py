"""At least once, and each message applied once: faults, kills, and many messages."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.jobs.systems import forget_in_nats, left_in_nats
from tests.jobs.workers import ROOT, Worker
from tests.support.look import Onlooker, until

MESSAGES, KILLS = 10_000, 20
TABLES = """
    CREATE TABLE applied (message text NOT NULL, number integer NOT NULL);
    CREATE TABLE counted (shard integer PRIMARY KEY, n integer NOT NULL);
    INSERT INTO counted SELECT generate_series(0, 15), 0
"""


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_each_message_is_applied_once_whatever_fails_and_dies(
    postgres_url, services, tmp_path, capsys
):
    """1 % of the runs raise, and 20 workers are killed before COMMIT or after it.

    `db.once` stores the message's id in the transaction of the work, and nothing else forbids that
    it is done again.
    """
    services.require("NATS")
    queue, runs = f"dbscope-{secrets.token_hex(4)}", tmp_path / "runs"
    env = {"JOBS_DATABASE": postgres_url, "JOBS_QUEUE": queue, "JOBS_RUNS": str(runs)}
    with Onlooker(postgres_url) as look:
        for statement in TABLES.split(";"):
            look.execute(statement)
        command = [sys.executable, "-m", "tests.jobs.apps.long_nats", str(MESSAGES)]
        subprocess.run(command, cwd=ROOT, env=os.environ | env, check=True)

        def applied() -> int:
            return look.rows("SELECT count(*) FROM applied")[0][0]

        started = time.monotonic()
        worker = Worker(
            ["faststream", "run", "tests.jobs.apps.long_nats:app"], env, tmp_path / "log"
        )
        try:
            with worker:
                for kill in range(1, KILLS + 1):
                    assert until(lambda due=kill: applied() >= due * MESSAGES // (KILLS + 2), 300)
                    Path(f"{runs}.kill").touch()
                    assert until(lambda due=kill: worker.starts > due, 120)
                assert until(lambda: applied() == MESSAGES, 600)
                assert until(lambda: not left_in_nats(queue), 120)
        finally:
            forget_in_nats(queue)
        counted = look.rows("SELECT sum(n) FROM counted")[0][0]
        numbers = look.rows("SELECT count(DISTINCT number) FROM applied")[0][0]
        rows = applied()
    with capsys.disabled():
        seconds = time.monotonic() - started
        sys.stdout.write(f"\n{numbers} messages, {worker.starts - 1} kills, {seconds:.0f} s\n")
    assert (counted, rows, numbers) == (MESSAGES, MESSAGES, MESSAGES)
    assert worker.starts == KILLS + 1
