"""Programs of Python that start in a process which has imported what they need.

To import SQLAlchemy, FastAPI, Alembic, the drivers and what the wheel has takes a second of work,
more than most of the programs that tests start. So one process imports them once, and forks for
each program: that one is a child of the tests, as if they had started it themselves.

Not for tests of how a process starts, of what it imports, or of what a terminal shows.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

USUAL = ("aiosqlite", "alembic.command", "alembic.autogenerate", "asyncmy", "asyncpg", "psycopg")
USUAL += ("pymysql", "sqlalchemy.dialects.mysql", "sqlalchemy.dialects.postgresql")
USUAL += ("sqlalchemy.ext.asyncio", "fastapi", "starlette.middleware.sessions")
USUAL += ("anyio._backends._asyncio", "uvicorn.main", "uvicorn.lifespan.on", "pydantic_settings")
USUAL += ("uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto", "uvicorn.loops.auto")
USUAL += ("argon2", "fastapi_offline", "itsdangerous", "jinja2", "limits", "python_multipart")
USUAL += ("alembic.config", "pydantic.v1", "sentry_sdk", "typer")
USUAL += ("dbscope", "dbscope.cli.commands", "dbscope.crud", "dbscope.migrate", "dbscope.once")
USUAL += ("dbscope.outbox", "dbscope.watch", "dbscope.backends.mysql.backend")
USUAL += ("dbscope.backends.postgresql.backend", "dbscope.backends.sqlite.migrating")
USUAL += ("dbscope.aio.greenlets", "dbscope.sqlite_inline.dialect", "dbscope.watch.page")
USUAL += ("dbscope.watch.watcher", "sentry_sdk.integrations.asgi", "smtplib")
USUAL += ("starlette.middleware.cors", "starlette.middleware.trustedhost")
HAS_SUBREAPERS = sys.platform == "linux"  # elsewhere all start by themselves
PR_SET_CHILD_SUBREAPER = 36
also: set[str] = set()  # modules that some tests need besides
LARGEST = 200_000  # bytes of a request: a command and an environment


class Stove:
    """The process that has imported everything, and how it is asked; made when it is first used."""

    made: ClassVar[Stove | None] = None
    one_at_a_time = threading.Lock()

    def __init__(self) -> None:
        self._link, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        atexit.register(self.close)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(other.fileno())],
                env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def close(self) -> None:
        """Let it end; who was forked from the tests only forgets it."""
        self._link.close()
        self._process.wait()

    @classmethod
    def start(cls, request: dict[str, Any], streams: list[int]) -> int:
        """Start a program, and return the number of its process, which is our child."""
        with cls.one_at_a_time:
            stove = cls.made = cls.made or cls()
            with orphans_are_ours():
                socket.send_fds(stove._link, [json.dumps(request).encode()], streams)
                pid, done = stove._link.recv(LARGEST), stove._link.recv(LARGEST)
        if not done:
            raise RuntimeError("the process that starts others has ended")
        return int(pid)


@contextmanager
def orphans_are_ours() -> Any:
    """Be the one who gets the processes below us whose parents have ended."""
    control = ctypes.CDLL(None).prctl
    control(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        control(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Popen(subprocess.Popen[Any]):
    """As `subprocess.Popen`, of a command of Python; warm are `[-W error] -m` and `-c`."""

    if HAS_SUBREAPERS:

        def _execute_child(self, args: list[str], *rest: Any) -> Any:
            """Start it; all the rest of the class is for whichever child."""
            (_, prepare, _, kept, folder, environment), pipes = rest[:6], rest[9:15]
            (session, group), place = rest[-2:], 3 if args[1:3] == ["-W", "error"] else 1
            if args[place] not in {"-m", "-c"} or prepare or kept or group not in {None, -1}:
                return super()._execute_child(args, *rest)  # type: ignore[misc]
            request = {
                "command": args[place:],
                "is_strict": place > 1,
                "folder": str(folder or Path.cwd()),
                "environment": dict(environment or os.environ),
                "session": bool(session),
                "hears_interrupts": signal.getsignal(signal.SIGINT) is not signal.SIG_IGN,
                "also": sorted(also),
            }
            mine = [usual if fd == -1 else fd for usual, fd in enumerate(pipes[::3] + pipes[5:])]
            try:
                self.pid = Stove.start(request, mine)
                self._child_created = True
            finally:
                self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run(command: list[str], *, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program, and return what it printed."""
    pipe = subprocess.PIPE
    with Popen(command, stdout=pipe, stderr=pipe, text=True, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


# -- in the process that imports -------------------------------------------------------------------


def main(link: socket.socket) -> None:
    """Import, and become each program that is asked for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    learn(USUAL)
    request = next_program(link)
    begin(request)
    become(request["command"])


tried: set[str] = set()  # modules that are imported, or are not there


def learn(names: Iterable[str]) -> None:
    """Import what was not tried yet."""
    new = [name for name in names if name not in tried]
    tried.update(new)
    for name in new:
        with suppress(ImportError):
            importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()
    if new:
        gc.collect()
        gc.freeze()


def next_program(link: socket.socket) -> dict[str, Any]:
    """Fork for each; return in the child, without the one between, so that the tests get it."""
    while True:
        told, streams, *_ = socket.recv_fds(link, LARGEST, 3)
        if not told:
            sys.exit()
        request: dict[str, Any] = json.loads(told)
        learn(request["also"])
        if os.fork() == 0:
            between = os.getpid()
            if child := os.fork():
                link.send(str(child).encode())
                os._exit(0)
            link.close()
            while os.getppid() == between:  # which takes a while to end
                time.sleep(0.001)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            return request
        os.wait()
        for stream in streams:
            os.close(stream)
        link.send(b"done")


def begin(request: dict[str, Any]) -> None:
    """Be where the program is to be, and as its environment says."""
    if request["session"]:
        os.setsid()
    if request["hears_interrupts"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["is_strict"]:
        sys.warnoptions.append("error")
        warnings.simplefilter("error")
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    told = request["environment"].get
    sys.pycache_prefix = told("PYTHONPYCACHEPREFIX")
    sys.dont_write_bytecode = bool(told("PYTHONDONTWRITEBYTECODE"))
    first = "" if request["command"][0] == "-c" else request["folder"]
    paths = [path for path in told("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [first, *paths]
    if told("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if told("TEST_PASSWORDS") == "cheap":
        make_passwords_cheap()
    importlib.invalidate_caches()


def make_passwords_cheap() -> None:
    """Let argon2 do its least: what it does for users, of 64 MiB, was a tenth of the shop's tests.

    https://docs.djangoproject.com/en/5.2/topics/testing/overview/#password-hashing
    """
    argon2 = sys.modules["argon2"]
    least = {"time_cost": 1, "memory_cost": 8, "parallelism": 1}
    argon2.PasswordHasher = partial(argon2.PasswordHasher, **least)  # type: ignore[attr-defined]


def become(command: list[str]) -> None:
    """Run a module or some code, as Python does."""
    how, what, *arguments = command
    sys.argv = ["-c" if how == "-c" else what, *arguments]
    if how == "-c":
        sys.modules["__main__"] = module = ModuleType("__main__")
        exec(compile(what, "<string>", "exec", dont_inherit=True), vars(module))
    else:
        runpy.run_module(what, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
