"""What the fault programs have: how often to do it, on which driver, and where figures go."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import asyncmy.errors  # noqa: F401  (an import reads files: not in a test, on the event loop)
import pytest
from sqlalchemy.engine import make_url

T = TypeVar("T")
SERVERS = dict.fromkeys(("asyncmy", "pymysql"), ("mysql", "mysql_server"))
FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def times(request: pytest.FixtureRequest) -> Callable[[T, T], T]:
    """Choose how often a fault is done: `times(short, long)`."""
    is_long = request.config.getoption("--long")
    return lambda short, long: long if is_long else short


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Write a line of figures into the table at the end of a --long run."""
    lines = request.config.stash.setdefault(FIGURES, [])
    name = request.node.nodeid.rpartition("::")[2]
    return lambda line: lines.append(f"{name}: {line}")


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Print the figures."""
    lines = config.stash.get(FIGURES, [])
    if lines and config.getoption("--long"):
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path) -> Iterator[str]:
    """A fresh database, for the driver that the parameter names."""
    if request.param in ("inline", "aiosqlite", "pysqlite"):
        yield f"sqlite+{request.param}:///{tmp_path / 'faults.db'}"
        return
    backend, fixture = SERVERS.get(request.param, ("postgresql", "postgres"))
    server = request.getfixturevalue(fixture)
    made = server.new_database(request.node.name)
    yield (
        make_url(made)
        .set(drivername=f"{backend}+{request.param}")
        .render_as_string(hide_password=False)
    )
    server.drop_database(made)
