"""What the tests of the unit share."""

import pytest

from tests.unit.hooks import Log


@pytest.fixture
def log() -> Log:
    """An empty list that hooks write to."""
    return Log()
