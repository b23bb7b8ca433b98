"""One application, made with the named library: its only request fails at COMMIT.

python -I application.py NAME FILE [handled]

handled: the application has a handler for the error, which answers 409.
"""

import asyncio
import json
import logging
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse

NAME, FILE, *HANDLED = sys.argv[1:]
URL = f"sqlite+aiosqlite:///{FILE}"
TABLES = """
CREATE TABLE parent (id INTEGER PRIMARY KEY);
CREATE TABLE child (parent_id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
"""
INSERT = text("INSERT INTO child VALUES (1)")  # there is no parent 1, and COMMIT looks


@event.listens_for(Engine, "connect")
def enforce(connection: Any, _: object) -> None:
    """Let SQLite look at foreign keys."""
    connection.execute("PRAGMA foreign_keys=ON")


def by_hand(**how: Any) -> FastAPI:
    """Be what the documentation of FastAPI shows: a dependency that commits after its `yield`."""
    sessions = async_sessionmaker(create_async_engine(URL))

    async def get_db() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session
            await session.commit()

    app = FastAPI()

    @app.post("/")
    async def write(session: Annotated[AsyncSession, Depends(get_db, **how)]) -> str:
        await session.execute(INSERT)
        return "stored"

    return app


def advanced_alchemy() -> FastAPI:
    """Use the middleware of advanced-alchemy, in its mode that commits."""
    from advanced_alchemy.extensions.fastapi import (  # pyright: ignore[reportMissingImports]
        AdvancedAlchemy,
        SQLAlchemyAsyncConfig,
    )

    app = FastAPI()
    config = SQLAlchemyAsyncConfig(connection_string=URL, commit_mode="autocommit")
    alchemy = AdvancedAlchemy(config=config, app=app)

    @app.post("/")
    async def write(session: Annotated[AsyncSession, Depends(alchemy.provide_session())]) -> str:
        await session.execute(INSERT)
        return "stored"

    return app


def fastapi_sqla() -> FastAPI:
    """Use its middleware, which commits when the response starts."""
    import fastapi_sqla as sqla  # pyright: ignore[reportMissingImports]

    os.environ["sqlalchemy_url"] = f"sqlite:///{FILE}?check_same_thread=false"  # noqa: SIM112

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await sqla.startup()
        yield

    app = FastAPI(lifespan=lifespan)
    sqla.setup_middlewares(app)

    def write(session: Session) -> str:
        session.execute(INSERT)
        return "stored"

    write.__annotations__["session"] = sqla.Session
    app.post("/")(write)
    return app


def context_async(*, asgi: bool) -> FastAPI:
    """Use the helper for FastAPI, or the pure ASGI middleware."""
    import context_async_sqlalchemy as casa  # pyright: ignore[reportMissingImports]
    from context_async_sqlalchemy import fastapi_utils  # pyright: ignore[reportMissingImports]

    connection = casa.DBConnect(
        engine_creator=lambda _: create_async_engine(URL),
        session_maker_creator=async_sessionmaker,
        host="here",
    )
    app = FastAPI()
    if asgi:
        app.add_middleware(casa.ASGIHTTPDBSessionMiddleware)
    else:
        fastapi_utils.add_fastapi_http_db_session_middleware(app)

    @app.post("/")
    async def write() -> str:
        session = await casa.db_session(connection)
        await session.execute(INSERT)
        return "stored"

    return app


def ours() -> FastAPI:
    """Use dbscope."""
    from dbscope import AsyncDatabase

    db = AsyncDatabase(URL)
    app = FastAPI()
    db.install(app)

    @app.post("/")
    async def write() -> str:
        await db.execute(INSERT)
        return "stored"

    return app


SUBJECTS: dict[str, Callable[[], FastAPI]] = {
    "by hand": by_hand,
    "by hand, scope=function": lambda: by_hand(scope="function"),
    "advanced-alchemy": advanced_alchemy,
    "fastapi-sqla": fastapi_sqla,
    "context-async-sqlalchemy": lambda: context_async(asgi=False),
    "context-async-sqlalchemy, ASGI": lambda: context_async(asgi=True),
    "dbscope": ours,
}


async def request(app: FastAPI) -> tuple[int, BaseException | None]:
    """Make the request, and return the status and what came out of the application."""
    scope: dict[str, Any] = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1"}
    scope |= {"method": "POST", "path": "/", "raw_path": b"/", "root_path": "", "scheme": "http"}
    scope |= {"query_string": b"", "headers": [], "client": None, "server": None}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if sent and not sent[-1].get("more_body"):
            await asyncio.sleep(0.2)
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    error = None
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        try:
            await app(scope, receive, send)
        except BaseException as left:
            error = left
    return sent[0]["status"], error


async def conflict(*_: Any) -> JSONResponse:
    """Be the application's own handler for what has failed."""
    return JSONResponse({"detail": "conflict"}, 409)


class Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.seen.append(record.name)


def main() -> None:
    """Make the request, look at the table, and print what came of it."""
    with sqlite3.connect(FILE) as connection:
        connection.executescript(TABLES)
    errors = Errors()
    logging.getLogger().addHandler(errors)
    app = SUBJECTS[NAME]()
    if HANDLED:
        app.exception_handler(IntegrityError)(conflict)
    status, error = asyncio.run(request(app))
    stored = connection.execute("SELECT count(*) FROM child").fetchone()[0]
    told = f"raised: {type(error).__name__}" if error else ", ".join(errors.seen) or "none"
    packages = (NAME.partition(",")[0], "fastapi", "sqlalchemy")
    versions = [f"{name} {metadata.version(name)}" for name in packages if name != "by hand"]
    result = {"status": status, "stored": stored, "error": told, "versions": ", ".join(versions)}
    print(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)  # threads of connections that were left behind


main()
