"""`--quick`: what a contributor runs often, and a word about what that leaves out."""

from pathlib import Path

import pytest

from tests import worlds

# These start servers and programs of their own, hundreds of times.
LONG_FOLDERS = frozenset({"acceptance", "cli", "crud", "jobs", "migrate", "tools"})
DRIVERS = frozenset({"inline", "sqlite3", "psycopg async"})  # of tests/worlds.py


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer --quick."""
    told = "leave out the folders and the drivers that take most of the time"
    parser.addoption("--quick", action="store_true", help=told)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a folder."""
    tests = Path(__file__).parent.parent
    if not config.getoption("--quick") or collection_path.parent != tests:
        return None
    return True if collection_path.name in LONG_FOLDERS else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out a driver."""
    if not config.getoption("--quick"):
        return
    left = [item for item in items if driver_of(item) not in {None, *DRIVERS}]
    config.hook.pytest_deselected(items=left)
    gone = set(left)
    items[:] = [item for item in items if item not in gone]


def driver_of(item: pytest.Item) -> str | None:
    """Return the driver that a test is told for, if it is told for several."""
    told = item.callspec.params if hasattr(item, "callspec") else {}
    found = [told[name] for name in ("database_url", "driver") if told.get(name) in worlds.DRIVERS]
    return found[0] if found else None


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Say what was left out."""
    if config.getoption("--quick"):
        folders = ", ".join(f"tests/{name}" for name in sorted(LONG_FOLDERS))
        terminalreporter.write_line(
            f"Left out: {folders}, and all drivers but {', '.join(sorted(DRIVERS))}. "
            "Everything: python3 dev.py test --all"
        )
