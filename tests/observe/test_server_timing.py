"""`Server-Timing`: the figures of a request in the header of its answer."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException

from dbscope import AsyncDatabase, ConfigurationError
from dbscope.observe.server_timing import ServerTimingMiddleware
from tests.asgi import ask
from tests.scopes.stage import ALONE, INSIDE, Stage

pytestmark = pytest.mark.anyio
PART = re.compile(r'([\w-]+);dur=([\d.]+)(?:;desc="((?:[^"\\]|\\.)*)")?')


def timing(answer: Any) -> dict[str, str]:
    """Return what the header tells, by name; the whole of it can be read."""
    header = answer.headers.get("server-timing", "")
    parts = PART.findall(header)
    assert ", ".join(each[0] for each in PART.finditer(header)) == header
    return {name: told for name, _, told in parts}


@pytest.mark.worlds(places=[ALONE, INSIDE])
async def test_an_answer_tells_what_it_has_cost(stage: Stage) -> None:
    """Also COMMIT, which has come before it."""
    stage.route(lambda: stage.insert("a"))
    stage.wire()
    stage.app.add_middleware(ServerTimingMiddleware, databases=[stage.real])
    seen = await stage.ask()
    stage.real.watch.stop()
    assert timing(seen.answer) == {"db": "committed", "db-sql": "1 statement", "db-commit": ""}


@pytest.mark.worlds(places=[ALONE])
async def test_the_one_line_is_told_to_who_asks_for_it(stage: Stage) -> None:
    """Quoted, whatever is in it; without the database there is no header."""

    def body() -> None:
        stage.insert("a")
        raise HTTPException(409, 'a "b" \\ \N{SNOWMAN}, c')

    stage.route(body)
    stage.route(lambda: None, "/nothing")
    stage.wire()
    stage.app.add_middleware(ServerTimingMiddleware, databases=[stage.real], line=True)
    seen = await stage.ask()
    (record,) = stage.real.watch.recent()
    nothing = await stage.ask(path="/nothing")
    stage.real.watch.stop()
    quoted = timing(seen.answer)["db"]
    assert re.sub(r"\\(.)", r"\1", quoted) == re.sub(r"[^\x20-\x7e]", "?", str(record))
    assert timing(nothing.answer) == {}


async def test_inside_of_the_request_it_says_what_to_do(tmp_path: Any) -> None:
    """There COMMIT is still to come, and nobody knows what it costs."""
    db = AsyncDatabase(f"sqlite:///{tmp_path}/a.db")
    app = FastAPI()
    app.add_middleware(ServerTimingMiddleware, databases=[db])
    db.install(app)
    answer = await ask(app, "GET", "/")
    assert isinstance(answer.error, ConfigurationError)
    assert "add it after that" in str(answer.error)
    db.watch.stop()
