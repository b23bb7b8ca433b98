"""The tests that wait longest come first, so that at the end nobody waits for one of them."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
FIRST = {TESTS / "install", TESTS / "jobs"}  # up to 40 s for a test, and hardly any work


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with them; otherwise the order stays, which is one by chance."""
    items.sort(key=lambda item: item.path.parent not in FIRST)
