"""The idle watch: who holds a transaction while it waits for something else."""

import logging
import re
from typing import Any

import pytest
from fastapi import FastAPI

from tests.worlds import Both, World, insert

pytestmark = pytest.mark.worlds(places=["scope", "request"])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that goes on when the test says so: what is measured is idleness, not the machine."""
    now = [1000.0]
    monkeypatch.setattr("dbscope.unit.idle.monotonic", lambda: now[0])
    return now


def warnings(caplog: Any) -> list[str]:
    """Return what was warned about."""
    return [r.getMessage() for r in caplog.records if "idle" in r.getMessage()]


def work(db: Both, clock: list[float], seconds: float) -> None:
    """Write, wait, and write again."""
    insert(db, "a")
    clock[0] += seconds
    insert(db, "b")


def test_who_sits_idle_in_a_transaction_is_named(
    world: World, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """The scope, how long, and the lines before and after."""
    world.database = type(world.database)(world.url, idle_limit=1.0)
    with caplog.at_level(logging.WARNING, "dbscope"):
        world.run(lambda db: work(db, clock, 2.5))
    (told,) = warnings(caplog)
    scope = "POST /" if world.place == "request" else "the scope opened at"
    assert told.startswith(scope)
    assert "2.5 s" in told
    used_in = rf"{re.escape(insert.__code__.co_filename)}:\d+"  # not in SQLAlchemy, nor in a loop
    assert re.search(f"after {used_in} and before {used_in};", told)
    assert world.database.stats()["idle_warnings"] == 1


@pytest.mark.parametrize(("limit", "seconds"), [(1.0, 0.9), (None, 100)])
def test_nobody_is_named_within_the_limit_or_without_one(
    world: World, clock: list[float], caplog: Any, limit: Any, seconds: float
) -> None:
    """It is off unless it is asked for."""
    world.database = type(world.database)(world.url, idle_limit=limit)
    world.run(lambda db: work(db, clock, seconds))
    assert warnings(caplog) == []


def test_who_gave_the_connection_back_is_not_idle_in_it(
    world: World, clock: list[float], caplog: Any
) -> None:
    """Between two transactions nothing is held."""
    world.database = type(world.database)(world.url, idle_limit=1.0)

    def body(db: Both) -> None:
        db.session.commit()
        insert(db, "a")
        db.session.commit()
        clock[0] += 100
        insert(db, "b")

    world.run(body)
    assert warnings(caplog) == []


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize(("given", "limit"), [(None, 1.0), (7.0, 7.0)])
def test_with_an_application_in_debug_it_is_on(world: World, given: Any, limit: float) -> None:
    """One second, unless a limit was given; without `debug` it stays off."""
    database = type(world.database)(world.url, idle_limit=given)
    database.install(FastAPI())
    assert database._source.idle_limit == given
    database.install(FastAPI(debug=True))
    assert database._source.idle_limit == limit
