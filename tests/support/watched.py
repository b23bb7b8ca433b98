"""`--watched`: each database of the tests is watched, and every rule holds as it does without."""

from functools import wraps
from typing import Any

import pytest

from dbscope.database.base import CommonDatabase

started: list[Any] = []  # watches


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer --watched."""
    parser.addoption("--watched", action="store_true", help="watch each database of the tests")


def pytest_configure(config: pytest.Config) -> None:
    """Have each database watched from the beginning."""
    if config.getoption("--watched"):
        CommonDatabase.__init__ = watched(CommonDatabase.__init__)  # type: ignore[method-assign]


def watched(make: Any) -> Any:
    """Return how a database is made that is watched."""

    @wraps(make)
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        if not kwargs.get("_companion"):  # which has the same watch
            self.watch.start(share=False)
            started.append(self.watch)

    return made


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Look no longer at the databases of a test that is over."""
    while started:
        started.pop().stop()
