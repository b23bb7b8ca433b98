"""MariaDB or MySQL for the tests: the server of TEST_MYSQL_URL, which may make databases."""

import itertools
import os
import re
import secrets
from collections.abc import Iterator

import pymysql
import pytest
from sqlalchemy.engine import URL, make_url

from tests.support.look import Onlooker

IN_CI = "mysql://root@127.0.0.1/test"


class MySQLServer:
    """A server: where it is, and databases of our own in it."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._run = secrets.token_hex(4)  # several runs may share one server
        self._numbers = itertools.count(1)
        self._databases: list[str] = []
        self._look = Onlooker(self._url, patience=40)  # a connection that was killed ends slowly

    @property
    def address(self) -> tuple[str, int]:
        """What a socket connects to."""
        return str(self._url.host), self._url.port or 3306

    def url(self, driver: str = "pymysql", database: str | None = None) -> str:
        """Return SQLAlchemy's URL of a database here."""
        url: URL = self._url.set(drivername=f"mysql+{driver}")
        return url.set(database=database or url.database).render_as_string(hide_password=False)

    def new_database(self, name: str = "test", driver: str = "pymysql") -> str:
        """Create an empty database that no other test or run has, and return its URL."""
        words = re.sub(r"\W+", "_", name.lower())[:30]
        database = f"dbscope_{self._run}_{next(self._numbers)}_{words}"
        self._look.execute(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")
        self._databases.append(database)
        return self.url(driver, database)

    def drop_database(self, url: str) -> None:
        """Drop a database made by ``new_database``."""
        database = str(make_url(url).database)
        self._databases.remove(database)
        self._look.execute(f"DROP DATABASE {database}")

    def close(self) -> None:
        """Drop the databases that are left."""
        for database in list(self._databases):
            self.drop_database(self.url(database=database))
        self._look.close()


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[MySQLServer]:
    """The server of TEST_MYSQL_URL; in CI it must be there, elsewhere its tests are skipped."""
    url = os.environ.get("TEST_MYSQL_URL", "")
    if not url and not os.environ.get("CI"):
        pytest.skip("MariaDB or MySQL: TEST_MYSQL_URL names none, for example " + IN_CI)
    try:
        server = MySQLServer(url or IN_CI)
    except pymysql.Error as error:
        pytest.fail(f"MariaDB or MySQL at {url or IN_CI}: {error}")
    yield server
    server.close()


@pytest.fixture
def mysql_url(mysql_server: MySQLServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database, for one test."""
    url = mysql_server.new_database(request.node.name)
    yield url
    mysql_server.drop_database(url)
