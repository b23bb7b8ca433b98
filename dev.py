#!/usr/bin/env python3
"""The commands of this repository.

    python3 dev.py serve [--host H] [--port P] [uvicorn options]   run the reference server
    python3 dev.py test [--all] [pytest options]                   run the tests
    python3 dev.py lint [ruff] [format] [mypy] [pyright]           check style and types
    python3 dev.py bench [options]                                 run the benchmarks
    python3 dev.py lock [uv options]                               renew the lock files (needs uv)

Python 3.11 and pip are enough, and uv is used where there is one: the first command that needs
.venv makes it as the lock files say, and the next one finds it ready. It is that of the Python
that runs this: `python3.14 dev.py test` runs the tests on Python 3.14, in a .venv made anew.

`test` alone runs what takes some minutes, and says what it left out; `test --all` runs everything,
and so does `test` where CI is set. With options for pytest it runs what they say, `--long` too.

The tests use a PostgreSQL of their own, and MariaDB if they are told of one. Others are chosen by
TEST_DATABASE_URL or TEST_POSTGRES_BIN (a folder with `initdb` and `postgres`, say of PostgreSQL 18,
from which a server is started) and by TEST_MYSQL_URL, for example mysql://root@127.0.0.1/test.
"""

import sys

if sys.version_info < (3, 11):
    version = ".".join(str(number) for number in sys.version_info[:2])
    sys.stderr.write(f"dev.py: Python 3.11 or newer is needed, and this is {version}.\n")
    sys.exit(2)

import argparse
import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
IN_VENV = Path(sys.prefix).resolve() == VENV
PYTHON = getattr(sys, "_base_executable", sys.executable) if IN_VENV else sys.executable

LOCKS = {
    "pip": "requirements-pip.lock",
    "test": "requirements.lock",
    "lint": "requirements-lint.lock",
}
LINTERS = {
    "ruff": ["ruff", "check"],
    "format": ["ruff", "format", "--check"],
    "mypy": ["mypy"],
    "pyright": ["pyright"],
}
# Half of the cores are for servers and processes of tests; four, since each waits for those.
WORKERS = max(4, (os.cpu_count() or 2) // 2)
AT_ONCE = [f"--numprocesses={WORKERS}", "--dist=worksteal"]
ROOM = 2 << 30  # bytes in memory for the files of all tests, which had 560 MB at most
PROGRAMS = {  # Debian's package: what of it the tests run
    "chromium-headless-shell": "/usr/bin/chromium-headless-shell",
    "fonts-dejavu-core": "/usr/share/fonts/truetype/dejavu",
    "firebird3.0-server": "/usr/sbin/firebird",
    "nats-server": "/usr/sbin/nats-server",
    "pgbouncer": "/usr/sbin/pgbouncer",
    "rabbitmq-server": "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "redis-server": "/usr/bin/redis-server",
}


def serve(arguments: Sequence[str]) -> int:
    """Run the reference server."""
    parser = argparse.ArgumentParser(
        prog="dev.py serve",
        description="Run the reference server. DATABASE_URL chooses its database.",
        epilog="All other options go to uvicorn.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("--host", default=os.environ.get("HOST") or "127.0.0.1")
    parser.add_argument("--port", type=port, default=os.environ.get("PORT") or "8000")
    try:
        options, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        stop(f"{error}.")
    require_free(options.host, options.port)
    set_up("test")
    address = ["--host", options.host, "--port", str(options.port)]
    return become("server", *address, *rest)


def port(text: str) -> int:
    """Read a port number."""
    number = int(text)
    if number not in range(65536):
        raise ValueError
    return number


def test(arguments: Sequence[str]) -> int:
    """Run the tests."""
    set_up("test")
    keep_in_memory()
    if os.environ.get("CI"):
        install_programs()
    if list(arguments) == ["--all"] or (not arguments and os.environ.get("CI")):
        return become("pytest", *AT_ONCE)
    return become("pytest", *(arguments or ["--quick", *AT_ONCE]))


def keep_in_memory() -> None:
    """Let the tests' files be in memory, if there is room; nearly all are gone after some ms.

    Their databases are files that come and go by thousands: on a disk, the system's part of that
    is an eighth of all the CPU time that the tests take.
    """
    folder = Path("/dev/shm")  # noqa: S108
    if sys.platform == "linux" and "TMPDIR" not in os.environ and has_room(folder):
        os.environ["TMPDIR"] = str(folder)


def has_room(folder: Path) -> bool:
    """Tell whether the tests can have their files, and programs, in a folder in memory."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    told = os.statvfs(folder)
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvail")), 0)
    can_run = not told.f_flag & os.ST_NOEXEC
    return can_run and told.f_bavail * told.f_frsize >= ROOM and free >= 2 * ROOM


def install_programs() -> None:
    """Install what the tests use besides Python, where a missing one is a failure."""
    missing = [package for package in PROGRAMS if not Path(PROGRAMS[package]).exists()]
    if not missing or shutil.which("apt-get") is None:
        return
    say(f"installing {', '.join(missing)} for the tests")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if run(command, quiet)[0]:
        run(["apt-get", "update"], quiet)
        status, output = run(command, quiet)
        if status:
            say(f"that failed, and the tests that need them will too:{tail(output)}")


def lint(arguments: Sequence[str]) -> int:
    """Run all the checks of style and types, or the named ones."""
    unknown = set(arguments) - set(LINTERS)
    if unknown:
        stop(f"lint knows no {', '.join(sorted(unknown))}: choose from {', '.join(LINTERS)}.")
    set_up("test")
    set_up("lint")
    commands = [LINTERS[name] for name in arguments or LINTERS]
    checks = [Check(command) for command in commands]  # at once: each is one thread of work
    try:
        failed = [check.name for check in checks if not check.passes()]
    finally:
        for check in checks:
            check.process.kill()
    if failed:
        say(f"lint failed: {', '.join(failed)}")
    return 1 if failed else 0


class Check:
    """A linter at work; what it says is kept until it is its turn."""

    def __init__(self, command: Sequence[str]) -> None:
        self.name = " ".join(command)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        colours = {"FORCE_COLOR": "1"} if sys.stdout.isatty() and os.name != "nt" else {}
        self.process = subprocess.Popen(
            [VENV_PYTHON, "-m", *command],
            env=colours | os.environ,
            stdout=self._said,
            stderr=subprocess.STDOUT,
        )

    def passes(self) -> bool:
        """Show what it said, and tell whether it was content."""
        print(f"$ {self.name}", flush=True)
        status = self.process.wait()
        with self._said as said:
            said.seek(0)
            sys.stdout.buffer.write(said.read())
            sys.stdout.flush()
        return status == 0


def bench(arguments: Sequence[str]) -> int:
    """Run the benchmarks."""
    set_up("test")
    return become("benchmarks", *arguments)


def lock(arguments: Sequence[str]) -> int:
    """Renew uv.lock and what is exported from it for pip."""
    uv = shutil.which("uv")
    if uv is None:
        stop("lock needs uv on the PATH: https://docs.astral.sh/uv/")
    # Nobody's own mirror belongs in the files that everybody uses.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("UV_", "PIP_"))}
    public = ["--no-config", "--default-index", "https://pypi.org/simple"]
    require([uv, "lock", *public, *arguments], clean)
    export = [uv, "export", *public, "--locked", "--format", "requirements.txt", "--no-header"]
    library = ["--no-emit-project", "--all-extras", "--no-default-groups", "--group", "test"]
    for group, file in LOCKS.items():
        what = library if group == "test" else ["--only-group", group]
        require([*export, *what, "--output-file", file], clean)
    return 0


def set_up(group: str) -> None:
    """Make .venv hold what the group's lock says, unless its stamp tells that it does."""
    stamp, wanted = VENV / f".{group}.stamp", fingerprint(group)
    if is_stamped(stamp, wanted):
        return
    with one_at_a_time():
        if is_stamped(stamp, wanted):
            return
        say(f"setting up .venv for {group}: this takes a moment, once")
        if group == "test":
            make_venv()
        if not install_with_uv(group):
            install_with_pip(group)
        stamp.write_text(wanted)


def is_stamped(stamp: Path, wanted: str) -> bool:
    """Tell whether an earlier set-up got to its end, with the same inputs."""
    return VENV_PYTHON.exists() and stamp.is_file() and stamp.read_text() == wanted


def fingerprint(group: str) -> str:
    """Return one hash of all that decides what is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    locks = [(ROOT / name).read_bytes() for name in ("uv.lock", LOCKS["pip"], LOCKS[group])]
    python = [sys.version, sys.base_prefix, str(VENV)]
    inputs = [project["project"], project["build-system"], locks, python]
    return hashlib.sha256(repr(inputs).encode()).hexdigest()


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let other starts wait here; the system lifts the lock even if we are killed."""
    with (ROOT / ".venv.lock").open("w") as file:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_venv() -> None:
    """Make an empty .venv; without pip in it, so that a Python without ensurepip is enough."""
    try:
        import venv
    except ImportError:
        stop("this Python has no venv module: install it (Debian: apt install python3-venv).")
    venv.EnvBuilder(clear=True, with_pip=False, symlinks=os.name != "nt").create(VENV)


def install_with_uv(group: str) -> bool:
    """Sync .venv with uv.lock, and tell whether that was possible."""
    uv = shutil.which("uv")
    if uv is None:
        return False
    command = [uv, "sync", "--locked", "--inexact", "--all-extras", "--no-default-groups"]
    mine = {"UV_PROJECT_ENVIRONMENT": str(VENV), "UV_PYTHON": str(VENV_PYTHON)}
    status, output = run([*command, "--group", group], {**os.environ, **mine})
    if status:
        say(f"uv could not do it, so pip will try; the last words of uv:{tail(output)}")
    return status == 0


def install_with_pip(group: str) -> None:
    """Install the group's lock into .venv, with a newer and faster pip than a system may have."""
    settings = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0"}
    environment = {**os.environ, **settings}
    locked = ["install", "--no-compile", "--no-deps", "--require-hashes", "--requirement"]
    pip = [str(VENV_PYTHON), "-m", "pip"]
    if run([*pip, "--version"])[0]:
        system_pip = [PYTHON, "-m", "pip"]
        if run([*system_pip, "--version"])[0]:
            stop("neither uv nor pip is here: install pip (Debian: apt install python3-pip).")
        require([*system_pip, "--python", str(VENV_PYTHON), *locked, LOCKS["pip"]], environment)
    require([*pip, *locked, LOCKS[group]], environment)
    if group == "test":
        require([*pip, "install", "--no-deps", "--no-build-isolation", "-e", "."], environment)


def require_free(host: str, number: int) -> None:
    """Stop unless the server will be able to listen there."""
    try:
        family, *_, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as listener:
            if os.name != "nt":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        stop(f"cannot listen on {host}:{number} ({error}): choose another with --port or --host.")


def keep_compiled() -> None:
    """Let each Python find compiled what another has compiled before; the tests start hundreds."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(VENV / "pycache")


def become(module: str, *arguments: str) -> int:
    """Go on as a module of the environment: its signals, its exit status, nothing of ours."""
    command = [str(VENV_PYTHON), "-m", module, *arguments]
    if os.name == "nt":
        return subprocess.call(command)
    return os.execv(command[0], command)


def require(command: Sequence[str], environment: dict[str, str]) -> None:
    """Run a command quietly; if it fails, show its last words and stop."""
    status, output = run(command, environment)
    if status:
        stop(f"this command failed with status {status}: {shlex.join(command)}{tail(output)}")


def run(command: Sequence[str], environment: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """Run a command quietly and return its exit status and the lines it wrote."""
    result = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return result.returncode, [line for line in result.stdout.splitlines() if line.strip()]


def tail(output: Sequence[str]) -> str:
    """Return the last lines of a command's output, each on an indented line of its own."""
    return "".join(f"\n    {line}" for line in output[-8:])


def say(sentence: str) -> None:
    """Speak to whoever runs this, apart from what the commands print."""
    print(f"dev.py: {sentence}", file=sys.stderr, flush=True)


def stop(sentence: str) -> NoReturn:
    """Say one sentence and end."""
    say(sentence)
    raise SystemExit(2)


def main(arguments: Sequence[str]) -> int:
    """Run the command that was asked for."""
    commands = {"serve": serve, "test": test, "lint": lint, "bench": bench, "lock": lock}
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0 if arguments else 2
    if arguments[0] not in commands:
        stop(f"there is no command {arguments[0]!r}: choose from {', '.join(commands)}.")
    os.chdir(ROOT)
    keep_compiled()
    # Leave by an exception, so that a set-up that is told to stop leaves no pip at work behind it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return commands[arguments[0]](arguments[1:])
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        stop(str(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
