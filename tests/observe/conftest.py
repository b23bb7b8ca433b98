"""The fixture `stage` is that of the tests of scopes; and no listener may fail, unseen as it is."""

from collections.abc import Iterator

import pytest

from dbscope.watch import dispatch
from tests.scopes.conftest import made_stage, pauses, pytest_generate_tests, stage

__all__ = ["made_stage", "pauses", "pytest_generate_tests", "stage"]


@pytest.fixture(autouse=True)
def failed_listeners(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[type]]:
    """Fail the test in which a listener has failed: the work goes on, so nobody else would."""
    complained: set[type] = set()
    monkeypatch.setattr(dispatch, "complained", complained)
    yield complained
    assert complained == set()
