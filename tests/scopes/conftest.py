"""The fixture `stage`: a test that asks for it runs with every driver and every middleware."""

from collections.abc import AsyncIterator

import pytest

from tests.scopes.stage import AROUND, Stage, make_stage
from tests.worlds import DRIVERS


@pytest.fixture
def made_stage(database_url: str, request: pytest.FixtureRequest) -> Stage:
    """Make an application on a fresh database, without a loop, as a program does at import."""
    driver, around = request.param
    return make_stage(driver, around, database_url)


@pytest.fixture
async def stage(made_stage: Stage) -> AsyncIterator[Stage]:
    """Return an application on a fresh database; nothing may be left behind in it."""
    async with made_stage.used() as stage:
        yield stage


@pytest.fixture(autouse=True)
def slow_to_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on a machine that stalls hears of a cancellation later."""
    for module in ("postgresql", "psycopg", "mysql", "stop"):
        monkeypatch.setattr(f"dbscope.engine.{module}.CANCEL_TIMEOUT", 20)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pause for no time; the list has the limits that were drawn from."""
    limits: list[float] = []

    def uniform(least: float, most: float) -> float:
        assert least == 0
        limits.append(most)
        return 0

    monkeypatch.setattr("dbscope.scopes.backoff.random.uniform", uniform)
    return limits


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of `stage` everywhere, or where `@pytest.mark.worlds` says."""
    if "stage" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("worlds")
    wanted = marker.kwargs if marker else {}
    drivers = [d for d in DRIVERS if wanted.get("drivers", lambda d: True)(d)]
    cells = [(driver, around) for driver in drivers for around in wanted.get("places", AROUND)]
    metafunc.parametrize(
        ("database_url", "made_stage"),
        [(driver, (driver, around)) for driver, around in cells],
        indirect=True,
        ids=[f"{driver}-{around}".replace(" ", "-") for driver, around in cells],
    )
