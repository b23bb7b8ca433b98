"""Plain code does not wait on an event loop: it would stop all that goes on there."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
import uvicorn
from fastapi import Depends, FastAPI
from sqlalchemy import select

from dbscope import AsyncDatabase, Database, SynchronousOnlyOperation
from tests.scopes.stage import Stage, only
from tests.worlds import SYNC, Base, Item

pytestmark = pytest.mark.anyio

ONE = select(Item.name)


def flush(db: Any) -> None:
    db.session.add(Item(name="a"))
    db.session.flush()


USES: dict[str, Callable[[Any], object]] = {
    "a statement": lambda db: db.execute(ONE),
    "a flush": flush,
    "a connection": lambda db: db.session.connection(),
    "a block": lambda db: db.atomic(lambda: db.scalar(ONE))(),
    "a ping": lambda db: db.ping(),
    "a gathering": lambda db: db.gather(lambda: db.scalar(ONE)),
}


@only(*SYNC)
@pytest.mark.parametrize("use", USES)
async def test_a_request_that_would_stop_the_loop_is_refused(stage: Stage, use: str) -> None:
    """Nothing is sent, the message names the line, and the same is fine in a thread."""

    @stage.app.post("/")
    async def endpoint() -> None:
        USES[use](stage.real)

    @stage.app.post("/in-a-thread")
    async def in_a_thread() -> None:
        await anyio.to_thread.run_sync(USES[use], stage.real)

    stage.app.post("/plain")(lambda: USES[use](stage.real) and None)
    seen = await stage.ask()
    assert isinstance(seen.answer.error, SynchronousOnlyOperation)
    assert f"on the event loop, at {__file__}:" in str(seen.answer.error)
    assert (seen.status, seen.items, stage.real.stats()["transactions"]) == (500, [], 0)
    assert (await stage.ask(path="/in-a-thread")).status == 200


@only(*SYNC)
async def test_what_is_only_kept_for_the_end_is_stored_in_a_thread(stage: Stage) -> None:
    """COMMIT flushes it there, so nobody waits on the loop."""

    @stage.app.post("/")
    async def endpoint() -> None:
        stage.real.session.add(Item(name="a"))

    assert (await stage.ask()).items == ["a"]


@only(*SYNC)
@pytest.mark.parametrize("use", USES)
async def test_so_it_is_where_a_thread_has_begun_the_transaction(stage: Stage, use: str) -> None:
    """A `def` dependency of an `async def` endpoint: its connection is there already."""

    def reader() -> None:
        stage.real.scalar(ONE)

    @stage.app.post("/", dependencies=[Depends(reader)])
    async def endpoint() -> None:
        USES[use](stage.real)

    seen = await stage.ask()
    assert isinstance(seen.answer.error, SynchronousOnlyOperation)
    assert f"on the event loop, at {__file__}:" in str(seen.answer.error)
    assert (seen.status, seen.items) == (500, [])


def test_a_module_may_use_it_while_a_server_loads_it(tmp_path: Path) -> None:
    """Uvicorn's loop runs already then (`--reload`, `--workers`, `--factory`); nobody is served."""
    (tmp_path / "loaded_here.py").write_text(
        "from dbscope import Database\n"
        "from sqlalchemy import text\n"
        "from fastapi import FastAPI\n"
        f"db = Database('sqlite:///{tmp_path}/a.db')\n"
        "with db.scope():\n"
        "    assert db.scalar(text('SELECT 1')) == 1\n"
        "def create_app():\n"
        "    with db.scope():\n"
        "        assert db.scalar(text('SELECT 1')) == 1\n"
        "    return FastAPI()\n"
    )

    async def load() -> None:
        config = uvicorn.Config("loaded_here:create_app", factory=True)
        config.load()

    sys.path.insert(0, str(tmp_path))
    try:
        asyncio.run(load())
        sys.modules["loaded_here"].db.dispose()
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("loaded_here", None)


@only("sqlite3")
async def test_who_means_it_says_so(stage: Stage) -> None:
    """By Django's word."""
    stage.remake(allow_async_unsafe=True)
    with stage.real.scope():
        flush(stage.real)
    assert stage.world.items() == ["a"]


@pytest.mark.parametrize("work", [lambda db: db.scalar(ONE), lambda db: db.ping()])
async def test_the_companion_is_refused_likewise_and_may_be_allowed(
    tmp_path: Any, work: Callable[[Any], object]
) -> None:
    """`db.sync` in async code, also where SQLAlchemy carries plain code in a greenlet."""
    url = f"sqlite:///{tmp_path}/a.db"
    strict, lax = AsyncDatabase(url), AsyncDatabase(url, allow_async_unsafe=True)
    await strict.ensure_schema(Base.metadata)
    async with strict.scope():
        with pytest.raises(SynchronousOnlyOperation):
            await strict.session.run_sync(lambda _: work(strict.sync))
        await asyncio.to_thread(work, strict.sync)
    async with lax.scope():
        await lax.session.run_sync(lambda _: work(lax.sync))
    await strict.dispose()
    await lax.dispose()


@pytest.mark.parametrize("is_installed", [True, False])
async def test_an_application_may_prepare_its_data_while_it_starts(
    tmp_path: Any, *, is_installed: bool
) -> None:
    """Nobody is served yet. What was begun then, and goes on, is not meant."""
    db = Database(f"sqlite:///{tmp_path}/a.db")
    later: list[asyncio.Task[None]] = []
    has_started = asyncio.Event()

    async def go_on() -> None:
        await has_started.wait()
        with pytest.raises(SynchronousOnlyOperation), db.scope():
            db.scalar(ONE)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        db.ensure_schema(Base.metadata)
        with db.scope():
            flush(db)
        later.append(asyncio.create_task(go_on()))
        yield

    app = FastAPI(lifespan=lifespan)
    if is_installed:
        db.install(app)
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Any:
        if sent:
            has_started.set()
            await later[0]
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "app": app, "state": {}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    db.dispose()
