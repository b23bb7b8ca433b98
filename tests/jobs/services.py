"""The brokers: those on their usual ports, else started for the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.look import until
from tests.support.processes import bar, free_port

PORTS = {"NATS": 4222, "RabbitMQ": 5672, "Redis": 6379}
PROGRAMS = {
    "NATS": "nats-server",
    "RabbitMQ": "/usr/lib/rabbitmq/bin/rabbitmq-server",  # that on the PATH runs as another user
    "Redis": "redis-server",
}
URLS = {
    "NATS": "nats://127.0.0.1:{}",
    "RabbitMQ": "amqp://guest:guest@127.0.0.1:{}/",
    "Redis": "redis://127.0.0.1:{}",
}


class Services:
    """Where the brokers are; each is looked for, or started, when it is needed first."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._urls: dict[str, str] = {}

    def require(self, *names: str) -> None:
        """Skip without a program, and fail where CI is set."""
        for name in names:
            if name in self._urls:
                continue
            if answers(port := PORTS[name]) or (port := self._started(name)):
                self._urls[name] = URLS[name].format(port)
                os.environ[f"JOBS_{name.upper()}"] = self._urls[name]
                continue
            told = f"no {name}: none at 127.0.0.1:{PORTS[name]}, and no program {PROGRAMS[name]}"
            pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)

    def _started(self, name: str) -> int:
        program = shutil.which(PROGRAMS[name])
        return self._stack.enter_context(started(name, program)) if program else 0


def answers(port: int) -> bool:
    """Tell whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def started(name: str, program: str) -> Iterator[int]:
    """Run a broker in a folder of its own, and give its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(
        prefix="dbscope-broker-", ignore_cleanup_errors=True
    ) as folder:
        command, env = command_of(name, program, port, folder)
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=folder, env=os.environ | env, stdout=log, stderr=log, process_group=0
            )
        try:
            up = until(lambda: answers(port) or process.poll() is not None, bar(60))
            assert up, f"{name} does not start"
            assert answers(port), Path(folder, "log").read_text(errors="replace")
            yield port
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def command_of(name: str, program: str, port: int, folder: str) -> tuple[list[str], dict[str, str]]:
    """Return how a broker is started."""
    if name == "NATS":
        return [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder], {}
    if name == "Redis":
        return [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder], {}
    return [program], {
        "HOME": folder,
        "RABBITMQ_NODENAME": f"dbscope{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": folder,
        "RABBITMQ_LOG_BASE": folder,
        "RABBITMQ_CONFIG_FILE": f"{folder}/none",  # not that of the system
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
        "RABBITMQ_PID_FILE": f"{folder}/pid",
    }


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """The brokers; those that were started end with the tests."""
    with ExitStack() as stack:
        yield Services(stack)
