"""The pytest plugin: `db_sandbox`, databases for tests, the gate; nothing until it is asked."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from dbscope import masked
from dbscope.backends import registry
from dbscope.testing import gate

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

pytest_plugins = registry.PYTEST_PLUGINS
OPTION = "dbscope_databases"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the setting that says which databases the tests have, and the gate."""
    purpose = "the databases that `db_sandbox` is about, as module:attribute"
    parser.addini(OPTION, purpose, type="linelist", default=[])
    gate.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Look on while tests run, if that was asked for."""
    gate.configure(config)


@pytest.fixture(scope="session")
def db_sandbox_databases(request: pytest.FixtureRequest) -> list[Any]:
    """Return the databases that `db_sandbox` is about; override it, or set `dbscope_databases`."""
    names: list[str] = request.config.getini(OPTION)
    if not names:
        pytest.fail(
            "db_sandbox does not know your database. Say which it is in pyproject.toml, by "
            f'[tool.pytest.ini_options] {OPTION} = ["app:db"], or by a fixture '
            "`db_sandbox_databases` (scope='session') that returns a list.",
            pytrace=False,
        )
    return [_find(name) for name in names]


def _find(name: str) -> Any:
    """Return the database that a name means, or fail with what is wrong about it."""
    module, _, attribute = name.partition(":")
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        _refuse(name, f"there is no module {error.name!r} for pytest; its `pythonpath` says where")
    for part in (attribute or "db").split("."):
        if not hasattr(found, part):
            _refuse(name, f"{found!r} has no {part!r}")
        found = getattr(found, part)
    if not hasattr(found, "sandbox"):
        _refuse(name, f"{found!r} is no database of dbscope")
    return found


def _refuse(name: str, why: str) -> NoReturn:
    told = f"{OPTION} has {name!r}, and {why}. It is module:attribute: `db` in app.py is app:db."
    pytest.fail(told, pytrace=False)


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


@dataclass(frozen=True, slots=True)
class Run:
    """What the fixtures of a database need to know of the run of pytest.

    Args:
        name: that all its workers share; "": there is one.
        worker: this one.
        folder: for temporary files.
        tell: prints a line.
    """

    name: str
    worker: str
    folder: Path
    tell: Callable[[str], object]


@pytest.fixture(scope="session")
def dbscope_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return the run of pytest, for the fixtures of a kind of database."""
    given: dict[str, str] = getattr(request.config, "workerinput", {})
    reporter: Any = request.config.pluginmanager.get_plugin("terminalreporter")

    def tell(line: str) -> None:
        if reporter is not None:
            reporter.write_line(f"dbscope: {masked(line)}")

    worker = given.get("workerid", "main")
    return Run(given.get("testrunuid", ""), worker, tmp_path_factory.getbasetemp(), tell)
