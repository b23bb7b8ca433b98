"""Prometheus: what is scraped, as its own parser reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dbscope import Database
from dbscope.observe import prometheus
from tests.scopes.stage import ALONE, Stage
from tests.worlds import Both, World, insert


def scraped(registry: CollectorRegistry) -> Callable[..., float | None]:
    """Return what tells the value of a sample; None if there is none."""
    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }

    def value(name: str, **labels: str) -> float | None:
        return found.get((f"dbscope_{name}", frozenset(labels.items())))

    return value


@pytest.mark.anyio
@pytest.mark.worlds(places=[ALONE])
async def test_transactions_are_counted_by_route_and_outcome(stage: Stage) -> None:
    """By the template of the route, so that ids make no series."""
    registry = CollectorRegistry()
    remove = prometheus.install(stage.real, registry=registry)

    async def ask(number: int) -> None:
        await stage.ask(path=f"/things/{number}")

    names = iter("abc")

    def body() -> None:
        name = next(names)
        stage.insert(name)
        if name == "b":
            raise HTTPException(409, "taken")

    stage.route(body, "/things/{id}")
    for number in range(3):
        await ask(number)
    value = scraped(registry)
    place = {"database": "default", "kind": "request", "route": "POST /things/{id}"}
    assert value("transactions_total", **place, outcome="committed") == 2
    assert value("transactions_total", **place, outcome="rolled_back") == 1
    assert value("transaction_seconds_count", **place) == 3
    assert value("statement_seconds_count", database="default", operation="INSERT") == 3
    assert value("connection_wait_seconds_count", database="default") == 3
    assert value("connection_use_seconds_count", database="default") == 3
    assert value("events_total", database="default", event="commits") == 2
    pool = f"default/{'async' if stage.world.is_async else 'sync'}"
    assert value("connections", pool=pool, state="used") == 0
    assert value("connections_pending", pool=pool) == 0
    assert "/things/1" not in generate_latest(registry).decode()
    remove()
    assert scraped(registry)("connections", pool=pool, state="used") is None


@pytest.mark.worlds(places=["scope"])
def test_statements_that_fail_are_counted(world: World) -> None:
    """And who holds a connection is seen at the moment of the scrape."""
    registry = CollectorRegistry()
    remove = prometheus.install(world.database, registry=registry)
    pool = f"default/{'async' if world.is_async else 'sync'}"
    used: list[Any] = []

    def body(db: Both) -> None:
        insert(db, "a")
        used.append(scraped(registry)("connections", pool=pool, state="used"))
        with suppress(DBAPIError), db.atomic():
            db.execute(text("INSERT INTO item (name) VALUES ('a')"))

    world.run(body)
    remove()
    value = scraped(registry)
    assert used == [1]
    assert value("statement_errors_total", database="default", operation="INSERT") == 1
    assert (
        value("transactions_total", database="default", kind="scope", route="", outcome="committed")
        == 1
    )
    assert world.items() == ["a"]


def test_two_databases_are_in_one_registry() -> None:
    """Each by its name; one of them may come later."""
    registry = CollectorRegistry()
    databases = [Database("sqlite://", name=name) for name in ("stock", "users")]
    removes = [prometheus.install(each, registry=registry) for each in databases]
    for database in databases:
        with database.scope():
            database.execute(text("SELECT 1"))
        database.dispose()
    value = scraped(registry)
    for name in ("stock", "users"):
        assert value("statement_seconds_count", database=name, operation="SELECT") == 1
        assert value("connections_max", pool=f"{name}/sync") is not None
    for remove in removes:
        remove()
    assert all(each.events.listeners == [] for each in databases)


def test_what_a_statement_is_called_is_one_of_a_few() -> None:
    """Whatever somebody writes makes no series of its own."""
    registry = CollectorRegistry()
    database = Database("sqlite://")
    remove = prometheus.install(database, registry=registry)
    with suppress(DBAPIError), database.scope():
        database.execute(text("NONSENSE 1"))
    database.dispose()
    remove()
    assert scraped(registry)("statement_errors_total", database="default", operation="OTHER") == 1


def test_databases_of_one_name_are_added_up(tmp_path: Path) -> None:
    """A series that comes twice is thrown away by who scrapes it."""
    databases = [Database(f"sqlite:///{tmp_path}/{name}.db") for name in "ab"]
    registry = CollectorRegistry()
    remove = prometheus.install(*databases, registry=registry)
    for db in databases:
        with db.scope():
            db.execute(text("SELECT 1"))
    lines = [line for line in generate_latest(registry).decode().splitlines() if line[0] != "#"]
    series = Counter(line.rpartition(" ")[0] for line in lines)
    assert [name for name, times in series.items() if times > 1] == []
    value = scraped(registry)
    assert value("events_total", database="default", event="sessions") == 2
    assert value("connections", pool="default/sync", state="idle") == 2
    remove()
    for db in databases:
        db.dispose()
