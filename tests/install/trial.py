"""What an installed dbscope does; a program that is run where only one of its extras is.

python -I trial.py EXTRA VERSION [URL ...]
"""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from sqlalchemy import text

import dbscope
from dbscope import AsyncDatabase, ConfigurationError, Database

EXTRA, VERSION, *URLS = sys.argv[1:]
DRIVERS = {
    "sqlite+aiosqlite:///trial.db": "aiosqlite",
    "postgresql://nobody@127.0.0.1/nowhere": "psycopg",
    "postgresql+asyncpg://nobody@127.0.0.1/nowhere": "asyncpg",
    "mysql://nobody@127.0.0.1/nowhere": "asyncmy",
}
EXTRAS = {"psycopg": "postgres", "asyncmy": "mysql", "alembic": "migrations", "typer": "cli"}
JOBS = {
    "celery": "Celery",
    "dramatiq": "Dramatiq",
    "faststream": "FastStream",
    "procrastinate": "Procrastinate",
    "saq": "SAQ",
    "taskiq": "Taskiq",
}
SELECT = text("SELECT 42")


def is_here(package: str) -> bool:
    """Tell whether a package is installed."""
    return find_spec(package) is not None


def query(url: str) -> None:
    """Ask a question in a scope of plain code."""
    db = Database(url)
    with db.scope(), db.atomic():
        assert db.scalar(SELECT) == 42
    db.dispose()


async def query_async(url: str) -> None:
    """Ask it in async code."""
    db = AsyncDatabase(url)
    async with db.scope(), db.atomic():
        assert await db.scalar(SELECT) == 42
    await db.dispose()


def refusal(of: Callable[[], object]) -> str:
    """Return in which words it is refused."""
    with suppress(Exception):
        try:
            of()
        except ConfigurationError as error:
            return str(error)
    raise AssertionError(f"{of} was not refused by a ConfigurationError")


def check_driver(url: str, package: str) -> None:
    """An engine can be made if the driver is there; else a sentence names what to install."""
    if is_here(package):
        assert AsyncDatabase(url).engine
        return
    extra = EXTRAS.get(package, package)
    told = refusal(lambda: AsyncDatabase(url).engine)
    assert f"pip install 'dbscope[{extra}]'." in told, told


def check_migrations() -> None:
    """Migrations run if Alembic is there; else a sentence names the extra."""
    if not is_here("alembic"):
        told = refusal(lambda: __import__("dbscope.migrate"))
        assert "Alembic is not installed" in told, told
        assert "pip install 'dbscope[migrations]'." in told, told
        return
    from dbscope.migrate import Migrations

    Path("models.py").write_text(
        "from dbscope import AsyncDatabase\nfrom sqlalchemy import MetaData\n"
        "db = AsyncDatabase('sqlite:///migrated.db')\nmetadata = MetaData()\n"
    )
    sys.path.insert(0, "")
    Migrations.init(database="models:db", metadata="models:metadata")
    migrations = Migrations(__import__("models").db)
    assert migrations.revision("first") is not None
    assert len(migrations.upgrade()) == 1


def check_jobs(system: str, called: str) -> None:
    """Its module can be imported if the system is there; else a sentence names the extra."""
    module = f"dbscope.jobs.{system}"
    if is_here(system):
        assert callable(import_module(module).install)
        return
    told = refusal(lambda: import_module(module))
    assert f"{called} is not installed" in told, told
    assert f"pip install 'dbscope[{system}]'." in told, told


def command(*arguments: str) -> tuple[int, str]:
    """Run the command, and return its status and what it has said."""
    done = subprocess.run(
        [sys.executable, "-I", "-m", "dbscope", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def check_command() -> None:
    """It explains errors anywhere; the rest needs Typer, and says so."""
    assert command("explain", "ScopeMissing")[1].startswith("# ScopeMissing\n\nThe database ")
    status, told = command("--help")
    if is_here("typer"):
        assert (status, "\n  upgrade " in told) == (0, True), told
    else:
        assert (status, told.count("\n")) == (2, 1), told
        assert "pip install 'dbscope[cli]'." in told


async def check_requests() -> None:
    """A request is committed before it is answered; a failed one is rolled back."""
    from fastapi import Depends, FastAPI, HTTPException

    db = AsyncDatabase("sqlite:///requests.db")
    async with db.scope():
        await db.execute(text("CREATE TABLE t (name TEXT)"))
    app = FastAPI()
    db.install(app)

    @app.post("/", status_code=201)
    async def write(name: str, session: Annotated[Any, Depends(db.get_session)]) -> str:
        await session.execute(text("INSERT INTO t VALUES (:name)"), {"name": name})
        if name == "bad":
            raise HTTPException(409)
        return name

    assert [await ask(app, name) for name in ("good", "bad")] == [201, 409]
    async with db.scope():
        assert list(await db.scalars(text("SELECT name FROM t"))) == ["good"]
    await db.dispose()


async def ask(app: Callable[..., Awaitable[None]], name: str) -> int:
    """Make a request without a client, which would have to be installed, and return the status."""
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST"}
    scope |= {"path": "/", "raw_path": b"/", "root_path": "", "scheme": "http", "headers": []}
    scope |= {"query_string": f"name={name}".encode(), "client": None, "server": None}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    status: int = sent[0]["status"]
    return status


def main() -> None:
    """Try all of it."""
    assert Path(dbscope.__file__).is_relative_to(sys.prefix), dbscope.__file__
    assert dbscope.__version__ == VERSION
    query("sqlite:///trial.db")
    asyncio.run(query_async("sqlite:///trial.db"))
    for url, package in DRIVERS.items():
        check_driver(url, package)
    for url in URLS:
        asyncio.run(query_async(url))
        if "asyncpg" not in url:
            query(url)
    check_command()
    check_migrations()
    for system, called in JOBS.items():
        check_jobs(system, called)
    if is_here("fastapi"):
        asyncio.run(check_requests())
    sys.stdout.write(f"{EXTRA}: all that was tried works\n")


main()
