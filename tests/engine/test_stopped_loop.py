"""A server that stops its event loop waits for its threads: they must not wait for the loop."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import anyio.to_thread
import pytest

from dbscope.aio import threads
from tests.support.stopping import STATES

ROOT = Path(__file__).parents[2]


def test_a_thread_that_goes_on_does_not_ask_a_loop_that_has_stopped() -> None:
    """Daphne stops its loop at SIGTERM; a thread that waited for a connection comes back then."""
    loop = asyncio.new_event_loop()
    inside, go_on, over = asyncio.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with threads.uncounted():
            loop.call_soon_threadsafe(inside.set)
            go_on.wait(30)
        over.set()

    async def begin() -> "asyncio.Task[None]":
        task = asyncio.create_task(anyio.to_thread.run_sync(work))  # type: ignore[arg-type]
        await inside.wait()
        return task

    task = loop.run_until_complete(begin())
    go_on.set()
    has_ended = over.wait(10)
    loop.run_until_complete(task)
    loop.close()
    assert has_ended


@pytest.mark.timeout(120)
@pytest.mark.parametrize("state", STATES)
def test_a_process_whose_loop_was_stopped_comes_to_its_end(state: str, tmp_path: Path) -> None:
    """Threads that wait for what the loop would give back do not, nor those that have no work."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.stopping", state, url]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90
    )
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
