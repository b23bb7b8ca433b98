"""A worker that is started again when it dies, as systemd and Kubernetes do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support import warm

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = (
    "arq.cli",
    "celery.bin.celery",
    "celery.bin.worker",
    "dramatiq.cli",
    "procrastinate.cli",
)
IMPORTED += ("faststream.nats", "faststream.rabbit", "faststream.redis", "faststream._internal.cli")
IMPORTED += ("celery.concurrency.prefork", "celery.worker.consumer", "kombu.transport.pyamqp")
IMPORTED += ("rq.cli", "saq.queue.redis", "taskiq.cli.worker.run", "taskiq_redis")
IMPORTED += ("taskiq_aio_pika", "dramatiq.brokers.rabbitmq", "dramatiq.brokers.redis")
warm.also.update(IMPORTED)


class Worker:
    """The processes of one worker, and what they have printed."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._command = [sys.executable, "-m", *command]
        self._env = {**os.environ, **env, "PYTHONUNBUFFERED": "1"}
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep)
        self._process: warm.Popen | None = None
        self.starts = 0

    def __enter__(self) -> Self:
        self._start()
        self._keeper.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Let it finish what it does, and end all that is left of it."""
        self._stopping.set()
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._keeper.join()

    def _start(self) -> None:
        self.starts += 1
        with self.log.open("ab") as log:
            self._process = warm.Popen(
                self._command,
                cwd=ROOT,
                env=self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _keep(self) -> None:
        """Start it again until it is to stop; what a dead one leaves behind is ended, too."""
        while True:
            assert self._process is not None
            ended = self._wait(self._process)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            if self._stopping.is_set() or not ended:
                return
            self._start()

    def _wait(self, process: warm.Popen) -> bool:
        """Wait for its end; one that was told to stop, and does not, is killed."""
        while process.poll() is None:
            if self._stopping.is_set():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                if process.poll() is None:
                    process.kill()
                    process.wait()
                return False
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        return True
