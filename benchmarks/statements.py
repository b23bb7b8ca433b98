"""One statement again and again: no application."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, select, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from benchmarks import by_hand
from benchmarks.client import WrongResult
from benchmarks.model import ITEM_ID, Item, answer
from dbscope import AsyncDatabase

TEXT = text("SELECT id, name, count FROM benchmark_items WHERE id = :id")
COLUMNS = select(*Item.__table__.columns).where(Item.id == ITEM_ID)
ITEM = select(Item).where(Item.id == ITEM_ID)
Rows = list[Any]


class Directly:
    """A statement that is run by a plain engine."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run = run
        self._rows: Rows = []

    async def request(self, times: int) -> None:
        run, rows = self.run, self._rows
        for _ in range(times):
            rows.append(run())

    def check(self) -> None:
        """Raise WrongResult unless each row since the last check was right."""
        for row in self._rows:
            got = {name: getattr(row, name) for name in answer()}
            if got != answer():
                raise WrongResult(f"expected {answer()}, got {got}")
        self._rows.clear()


class Awaited(Directly):
    """The same, to be awaited."""

    run: Callable[[], Awaitable[Any]]

    async def request(self, times: int) -> None:
        run, rows = self.run, self._rows
        for _ in range(times):
            rows.append(await run())


@asynccontextmanager
async def directly(url: URL, kind: str) -> AsyncIterator[Directly]:
    engine = create_engine(url, **by_hand.options(url))
    by_hand.follow_recipe(engine)
    with engine.connect() as connection:
        yield Directly(plain_runs(connection)[kind])
    engine.dispose()


@asynccontextmanager
async def awaited(url: URL, kind: str) -> AsyncIterator[Awaited]:
    engine = create_async_engine(url, **by_hand.options(url))
    by_hand.follow_recipe(engine.sync_engine)
    async with engine.connect() as connection:
        yield Awaited(async_runs(connection)[kind])
    await engine.dispose()


@asynccontextmanager
async def by_session(url: URL, kind: str) -> AsyncIterator[Directly]:
    engine = create_engine(url, **by_hand.options(url))
    by_hand.follow_recipe(engine)
    with Session(engine) as session:
        yield Directly(session_runs(session)[kind])
    engine.dispose()


@asynccontextmanager
async def by_dbscope(url: URL, kind: str) -> AsyncIterator[Awaited]:
    db = AsyncDatabase(url)
    async with db.scope():
        yield Awaited(async_session_runs(db.session)[kind])
    await db.dispose()


def plain_runs(connection: Connection) -> dict[str, Callable[[], Any]]:
    session = Session(connection)

    def item() -> Item:
        session.expunge_all()
        return session.execute(ITEM).scalar_one()

    return {
        "text": lambda: connection.execute(TEXT, {"id": ITEM_ID}).one(),
        "core": lambda: connection.execute(COLUMNS).one(),
        "orm": item,
    }


def async_runs(connection: AsyncConnection) -> dict[str, Callable[[], Awaitable[Any]]]:
    session = AsyncSession(connection)

    async def by_text() -> Any:
        return (await connection.execute(TEXT, {"id": ITEM_ID})).one()

    async def by_columns() -> Any:
        return (await connection.execute(COLUMNS)).one()

    async def item() -> Item:
        session.expunge_all()
        return (await session.execute(ITEM)).scalar_one()

    return {"text": by_text, "core": by_columns, "orm": item}


def session_runs(session: Session) -> dict[str, Callable[[], Any]]:
    def item() -> Item:
        session.expunge_all()
        return session.execute(ITEM).scalar_one()

    return {
        "text": lambda: session.execute(TEXT, {"id": ITEM_ID}).one(),
        "core": lambda: session.execute(COLUMNS).one(),
        "orm": item,
    }


def async_session_runs(session: AsyncSession) -> dict[str, Callable[[], Awaitable[Any]]]:
    async def by_text() -> Any:
        return (await session.execute(TEXT, {"id": ITEM_ID})).one()

    async def by_columns() -> Any:
        return (await session.execute(COLUMNS)).one()

    async def item() -> Item:
        session.expunge_all()
        return (await session.execute(ITEM)).scalar_one()

    return {"text": by_text, "core": by_columns, "orm": item}
