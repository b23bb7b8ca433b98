"""`StartupErrorMiddleware`: what a server is told of a start that failed."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dbscope import DatabaseUnavailable, MigrationError
from dbscope.migrate import StartupErrorMiddleware


def application(error: Exception | None) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette):
        if error is not None:
            raise error
        yield

    app = Starlette(lifespan=lifespan)
    app.add_middleware(StartupErrorMiddleware)
    return app


async def told(error: Exception | None) -> list[dict[str, Any]]:
    """Return what the application tells the server at its start."""
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    scope = {"type": "lifespan", "state": {}}
    if error is None:
        await application(None)(scope, receive, send)
    else:
        with pytest.raises(type(error)):
            await application(error)(scope, receive, send)
    return said


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [MigrationError, DatabaseUnavailable])
async def test_an_error_of_the_library_is_told_by_its_sentence(kind):
    """Without a traceback; the words that every error of its class has are left out, too."""
    failed = {"type": "lifespan.startup.failed", "message": "Behind by two."}
    assert await told(kind("Behind by two.")) == [failed]


@pytest.mark.anyio
async def test_an_error_of_the_application_keeps_its_traceback(request):
    """Nobody has written a sentence for it."""
    (message,) = await told(ValueError("a mistake"))
    assert message["type"] == "lifespan.startup.failed"
    assert message["message"].startswith("Traceback")


@pytest.mark.anyio
async def test_a_start_that_succeeds_is_passed_on():
    """And so is the end."""
    assert [each["type"] for each in await told(None)] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_the_error_itself_goes_on():
    """A test client raises it, as it does without the middleware."""
    with (
        pytest.raises(MigrationError, match=r"Behind\."),
        TestClient(application(MigrationError("Behind."))),
    ):
        pass
    with TestClient(application(None)) as client:
        assert client.get("/").status_code == 404
