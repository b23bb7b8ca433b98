"""What is kept of tests that are over: nothing."""

import gc
from pathlib import Path
from typing import Any

import pytest
from _pytest.fixtures import SubRequest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.support.forgetting import CACHES, OFTEN, pytest_runtest_teardown


class Remembered:
    """What an application has."""


def alive(kind: type) -> list[Any]:
    """Return those that there are."""
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, kind)]


@pytest.mark.parametrize("time", range(3))
def test_a_test_is_forgotten_by_the_fixtures_of_the_session(
    time: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """`tmp_path_factory` is told how each `tmp_path` is ended."""
    assert tmp_path.exists()
    of_tests = [each for each in alive(SubRequest) if each.scope == "function"]
    mine = {each.node for each in of_tests if each.node.path == request.node.path}
    assert mine == {request.node}


@pytest.mark.parametrize("time", range(3))
def test_an_application_is_forgotten_by_fastapi(time: int) -> None:
    """It keeps what it has found out of each endpoint."""
    app, kept = FastAPI(), Remembered()

    @app.get("/")
    async def endpoint() -> bool:
        return isinstance(kept, Remembered)

    assert TestClient(app).get("/").json() is True
    assert any(cache.cache_info().currsize for cache in CACHES)
    assert len(alive(Remembered)) <= 2, "this one, and perhaps the one before"


def test_what_is_left_is_looked_at_no_more_after_so_many_tests() -> None:
    """Else each collection of garbage takes longer than the one before."""
    kept = Remembered()
    for _ in range(OFTEN):
        pytest_runtest_teardown()
    assert all(each is not kept for each in gc.get_objects())
    assert gc.is_tracked(kept)
