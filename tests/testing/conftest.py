"""The fixture `booth`: an application on a database, in a sandbox, with every driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.util import greenlet_spawn
from starlette.testclient import TestClient

from tests.scopes.stage import ALONE, Stage, close, make_stage
from tests.support.look import until
from tests.worlds import DRIVERS, Both


@dataclass
class Booth:
    """A stage whose requests are sent by `TestClient`; the look tells what is there for good."""

    stage: Stage

    @property
    def db(self) -> Both:
        """The database, for bodies that are told once for sync and async."""
        return self.stage.db

    @property
    def real(self) -> Any:
        """The database as it is."""
        return self.stage.real

    def stored(self) -> list[str]:
        """Return the names that are stored for good."""
        return self.stage.world.items()

    def client(self, **options: Any) -> TestClient:
        """Return a client of the application, with routes to store and to read."""
        self.stage.wire()
        return TestClient(self.stage.app, **options)

    def run(self, story: Callable[[Both], Any]) -> Any:
        """Run a story that opens its own scopes; async code in a loop of its own."""
        if self.stage.world.is_async:
            return asyncio.run(greenlet_spawn(story, self.db))
        return story(self.db)

    def names(self) -> list[str]:
        """Return what the running code sees, in a scope of its own."""

        def story(db: Both) -> list[str]:
            with db.scope():
                return [name for (name,) in db.execute(NAMES)]

        names: list[str] = self.run(story)
        return names

    def clients(self) -> set[int]:
        """Return who is connected."""
        return set() if self.stage.world.is_sqlite else self.stage.clients()

    def is_clean(self) -> bool:
        """Tell whether nothing is left: no connection out, no transaction, no lock."""
        if self.real.stats()["pool_checked_out"]:
            return False
        look = self.stage.world.look
        if self.stage.world.is_sqlite:
            return look.write_lock_is_free()
        return not look.idle_in_transaction(patience=1)


NAMES = text("SELECT name FROM item ORDER BY id")


@pytest.fixture
def booth(database_url: str, request: pytest.FixtureRequest) -> Iterator[Booth]:
    """Return an application on a fresh database; nothing may be left behind in it."""
    made = Booth(make_stage(request.param, ALONE, database_url))
    before = made.clients()
    try:
        yield made
        assert until(made.is_clean)
    finally:
        asyncio.run(close(made.real))
        assert until(lambda: made.clients() <= before)
        made.stage.world.look.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of `booth` with every driver, or where `@pytest.mark.worlds` says."""
    if "booth" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("worlds")
    wanted = marker.kwargs if marker else {}
    drivers = [d for d in DRIVERS if wanted.get("drivers", lambda d: True)(d)]
    metafunc.parametrize(
        ("database_url", "booth"),
        [(driver, driver) for driver in drivers],
        indirect=True,
        ids=[driver.replace(" ", "-") for driver in drivers],
    )


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pause for no time before something is done again."""
    monkeypatch.setattr("dbscope.scopes.backoff.random.uniform", lambda least, most: 0)
