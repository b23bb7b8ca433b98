"""What the workers of all systems do: a job that ends in one of the ways of `CASES`.

How often it was run is counted in a file, which no ROLLBACK reaches and no kill.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

from sqlalchemy import text

from dbscope import AsyncDatabase, ScopeMissing
from dbscope.jobs.message import message_id

QUEUE = os.environ.get("JOBS_QUEUE", "jobs")
RUNS = Path(os.environ.get("JOBS_RUNS", os.devnull))
AMQP = os.environ.get("JOBS_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/")
NATS = os.environ.get("JOBS_NATS", "nats://127.0.0.1:4222")
REDIS = os.environ.get("JOBS_REDIS", "redis://127.0.0.1:6379")
db = AsyncDatabase(os.environ.get("JOBS_DATABASE", "sqlite:///jobs.db"))

CASES = {
    "success": "it returns",
    "exception": "it raises each time",
    "commit": "COMMIT fails each time",
    "retry": "it raises the first time",
    "killed": "kill -9 before the first COMMIT",
    "unacked": "kill -9 after the first COMMIT",
}
STORE = text("INSERT INTO stored (name, message) VALUES (:name, :message)")
BREAK = text("INSERT INTO broken (parent) VALUES (0)")  # a foreign key that COMMIT looks at


class Trouble(Exception):
    """What a job raises."""


def begin(case: str) -> int:
    """Count a run, and return which one it is."""
    with RUNS.open("a") as file:
        file.write(f"{case}\n")
    return RUNS.read_text().split().count(case)


def message() -> str | None:
    """Return what the message is called, where a module of ours has told it."""
    try:
        return message_id()
    except ScopeMissing:
        return None


def die() -> None:
    """Do what the OOM killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


def end(case: str, run: int) -> None:
    """End as the case wants it."""
    if case == "exception" or (case, run) == ("retry", 1):
        raise Trouble(case)
    if (case, run) == ("killed", 1):
        die()


async def work(case: str) -> None:
    """Do it in async code."""
    run = begin(case)
    await db.execute(STORE, {"name": case, "message": message()})
    if case == "commit":
        await db.execute(BREAK)
    if (case, run) == ("unacked", 1):
        db.on_commit(die)
    end(case, run)


def plain_work(case: str) -> None:
    """Do it in plain code."""
    run = begin(case)
    db.sync.execute(STORE, {"name": case, "message": message()})
    if case == "commit":
        db.sync.execute(BREAK)
    if (case, run) == ("unacked", 1):
        db.sync.on_commit(partial(die))
    end(case, run)
