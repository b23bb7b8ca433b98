"""The structured log: a line of JSON for each scope, whose keys never change."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import HTTPException
from starlette.responses import JSONResponse

from dbscope import AsyncDatabase
from dbscope.observe import logs
from tests.scopes.stage import ALONE, Stage
from tests.worlds import World, insert

KEYS = """
    time level logger message database kind scope route status outcome reason line disagrees stored
    not_stored never_sent statements seconds held waited attempt again problems
"""


@pytest.fixture
def lines() -> Iterator[Any]:
    """Return what reads the lines that were logged."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JSONFormatter())
    logger = logging.getLogger("dbscope")
    level, _ = logger.level, logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.anyio
@pytest.mark.worlds(places=[ALONE])
async def test_a_request_is_one_line(stage: Stage, lines: Any) -> None:
    """The message is the one line of the watch; the figures are beside it."""
    remove = logs.install(stage.real)

    def body() -> None:
        stage.insert("a")
        raise HTTPException(409, "taken")

    stage.route(body, "/things/{id}")
    await stage.ask(path="/things/1")
    (record,) = stage.real.watch.recent()
    stage.real.watch.stop()
    remove()
    (line,) = lines()
    assert list(line) == KEYS.split()
    assert line["message"] == str(record)
    assert (line["route"], line["status"]) == ("POST /things/{id}", 409)
    assert (line["outcome"], line["level"]) == ("rolled back", "INFO")
    assert line["not_stored"] == {"INSERT into item": 1}
    assert line["statements"] == 1
    assert line["time"].endswith("+00:00")


@pytest.mark.anyio
@pytest.mark.worlds(places=[ALONE])
async def test_what_is_not_as_it_was_answered_is_a_warning(stage: Stage, lines: Any) -> None:
    """The one to be looked at first."""
    remove = logs.install(stage.real)

    @stage.app.exception_handler(KeyError)
    async def handle(request: Any, error: Exception) -> JSONResponse:
        return JSONResponse("fine")

    def body() -> None:
        stage.insert("a")
        raise KeyError

    stage.route(body)
    await stage.ask()
    stage.real.watch.stop()
    remove()
    warned, line = lines()  # where it is answered, and what has become of it
    assert "is answered 200" in warned["message"]
    assert (line["level"], line["disagrees"], line["status"]) == ("WARNING", True, 200)


@pytest.mark.worlds(places=["scope"])
def test_other_formatters_find_the_figures(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """They are an attribute of the `LogRecord`, by whichever handler it is written."""
    caplog.set_level(logging.INFO, "shop.db")
    remove = logs.install(world.database, logger="shop.db")
    world.run(lambda db: insert(db, "a"))
    remove()
    world.run(lambda db: insert(db, "b"))
    world.database.watch.stop()
    (record,) = [each for each in caplog.records if each.name == "shop.db"]
    told: Any = record
    assert told.dbscope["stored"] == {"INSERT into item": 1}
    assert record.getMessage() == "committed; 1 INSERT into item stored"


def test_the_formatter_takes_whatever_is_logged(lines: Any) -> None:
    """Also what has a traceback, and what JSON knows nothing of."""
    try:
        raise KeyError("a")
    except KeyError:
        logging.getLogger("dbscope").exception("It failed: %s", "\n{")
    (line,) = lines()
    assert line["message"] == "It failed: \n{"
    assert line["error"].endswith("KeyError: 'a'")


def of_scopes(lines: Any) -> list[Any]:
    """Return the lines that are of scopes, and not of pools."""
    return [line for line in lines() if line["logger"] == "dbscope.scopes"]


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("companion", [True, False])
def test_a_second_call_takes_the_place_of_the_first(
    world: World, lines: Any, companion: bool
) -> None:
    """Each scope is one line, and the first remover ends nothing but its own."""
    database: Any = world.database
    other = database.sync if isinstance(database, AsyncDatabase) else database.async_
    first = logs.install(other if companion else database)
    second = logs.install(database)
    world.run(lambda db: insert(db, "a"))
    assert len(of_scopes(lines)) == 1
    first()
    world.run(lambda db: insert(db, "b"))
    assert len(of_scopes(lines)) == 2
    second()
    world.run(lambda db: insert(db, "c"))
    database.watch.stop()
    assert len(of_scopes(lines)) == 2


@pytest.mark.worlds(places=["scope"])
def test_what_is_started_again_is_logged_again(world: World, lines: Any) -> None:
    """Until somebody says that it is to end."""
    remove = logs.install(world.database)
    world.database.watch.stop()
    world.run(lambda db: insert(db, "a"))
    world.database.watch.start()
    world.run(lambda db: insert(db, "b"))
    remove()
    world.database.watch.stop()
    assert len(of_scopes(lines)) == 1
