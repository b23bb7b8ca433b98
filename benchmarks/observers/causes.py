"""Thirty causes: what is to be said of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from benchmarks.observers.model import Databases
from benchmarks.observers.stories import STORIES, Story, Trouble
from dbscope import default_commit_veto
from dbscope.testing import lose_commit_answer


@dataclass(frozen=True)
class Cause:
    """One of them: `outcome` and `reason` are patterns of what has to be said."""

    name: str
    outcome: str
    reason: str
    mark: str | None = ""  # of the line that has caused it: its name, another one, or none
    holder: str = ""  # the endpoint that holds what this one waits for
    cancelled: bool = False  # the client goes away meanwhile


NOT_STORED = "rolled back|COMMIT failed"
KEPT = "committed|read"
IDLE = r"idle (for|in)|asyncio\.sleep|(long|in)-transaction"
CAUSES = [
    Cause("error raised", "rolled back", "HTTPException"),
    Cause("error returned", "rolled back", r"status\w*\": 409|409 returned", mark=None),
    Cause("handled to 200", "rolled back", "Trouble"),
    Cause("unhandled", "rolled back", "Trouble"),
    Cause("swallowed", "rolled back", "UndefinedTable|ProgrammingError"),
    Cause("refused by COMMIT", NOT_STORED, "IntegrityError|ForeignKeyViolation"),
    Cause("flush at the end", NOT_STORED, "IntegrityError|UniqueViolation", mark=None),
    Cause("doom", "rolled back", r"doom\("),
    Cause("set_rollback", "rolled back", r"set_rollback\("),
    Cause("client gone", "rolled back", "[Cc]ancel", cancelled=True),
    Cause("deadline", "rolled back", "TransactionTimeout"),
    Cause("veto", "rolled back", "veto of", mark=None),
    Cause("broken savepoint", "rolled back", "UndefinedTable|ProgrammingError"),
    Cause("savepoint lost", "committed", "Trouble"),
    Cause("never sent", "rolled back", "Trouble"),
    Cause("pool", KEPT, "holder", holder="pool"),
    Cause("pool in vain", "rolled back", "PoolTimeout", holder="pool in vain"),
    Cause("second connection", KEPT, "holder", mark=None, holder="second connection"),
    Cause("SQLite's writer", "committed", "holder", holder="SQLite's writer"),
    Cause("row", "committed", "holder", holder="row"),
    Cause("row of another program", "committed", r"process \d+|pid", mark=None, holder="other"),
    Cause("lock by name", KEPT, "holder", holder="lock by name"),
    Cause("idle", KEPT, IDLE),
    Cause("stream", KEPT, IDLE),
    Cause("retry that won", "committed", "StaleDataError", mark="retry"),
    Cause("retry that lost", "rolled back", "StaleDataError", mark="retry"),
    Cause("stored by hand, then an error", "committed", "by hand"),
    Cause("stored in part", "partly committed", "lite|IntegrityError"),
    Cause("answer lost", "outcome unknown", "answer to COMMIT was lost", mark=None),
    Cause("answer lost, verified", "committed", "server says", mark=None),
]


def path(name: str) -> str:
    """Return the path of an endpoint."""
    return "/" + name.replace(" ", "-").replace("'", "").replace(",", "")


def application(dbs: Databases) -> FastAPI:
    """Return the application, with an endpoint for each story."""
    app = FastAPI()

    def veto(scope: Any, status: int, headers: Any, exception: Any) -> bool:
        refused = scope["path"] == path("veto")
        return refused or default_commit_veto(scope, status, headers, exception)

    dbs.main.install(app, commit_veto=veto, retry=1)

    @app.exception_handler(Trouble)
    async def handle(request: Request, error: Trouble) -> JSONResponse:
        if request.url.path == path("handled to 200"):
            return JSONResponse({}, 200)
        raise error

    for name, story in STORIES.items():
        app.add_api_route(path(name), endpoint(story, dbs), methods=["POST"])
    return app


def endpoint(story: Story, dbs: Databases) -> Callable[[], Awaitable[Any]]:
    """Return what FastAPI can call."""

    async def called() -> Any:
        return await story(dbs)

    return called


def faults(dbs: Databases, cause: Cause) -> Any:
    """Return what is to be around the request."""
    db = {"answer lost": dbs.main, "answer lost, verified": dbs.asking}.get(cause.name)
    return lose_commit_answer(db) if db else nullcontext()
