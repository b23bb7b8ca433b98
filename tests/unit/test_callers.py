"""Whose line it was: of an application, or of a library that it has called."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import event, select, text

from dbscope import AsyncDatabase, Database, ManualCommitForbidden, callsite
from tests.worlds import SYNC, Item, World, plain_engine

HERE = Path(__file__).name
A_LIBRARY = """
def commit(session):
    session.commit()

async def commit_async(session):
    await session.commit()

def read(session, statement):
    return session.scalars(statement).all()

async def read_async(session, statement):
    return (await session.scalars(statement)).all()
"""


@pytest.fixture
def library(tmp_path: Path) -> ModuleType:
    """Return an installed package which uses the session that it is given."""
    file = tmp_path / "site-packages" / "crudkit" / "crud.py"
    file.parent.mkdir(parents=True)
    file.write_text(A_LIBRARY)
    spec = importlib.util.spec_from_file_location("crudkit.crud", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line_of(word: str) -> int:
    """Return the number of the line of this file that ends with the comment."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith(f"# {word}"))


async def commit_in_a_block(url: str, library: ModuleType, **settings: Any) -> str:
    db = AsyncDatabase(url, **settings)
    try:
        async with db.scope(), db.atomic():
            with pytest.raises(ManualCommitForbidden) as raised:
                await library.commit_async(db.session)  # async library
            with pytest.raises(ManualCommitForbidden) as own:
                await db.session.rollback()  # async own
    finally:
        await db.dispose()
    assert f"{HERE}:{line_of('async own')}." in str(own.value)
    return str(raised.value)


def commit_in_a_plain_block(url: str, library: ModuleType, **settings: Any) -> str:
    db = Database(url, **settings)
    try:
        with db.scope(), db.atomic():
            with pytest.raises(ManualCommitForbidden) as raised:
                library.commit(db.session)  # plain library
            with pytest.raises(ManualCommitForbidden) as own:
                db.session.rollback()  # plain own
    finally:
        db.dispose()
    assert f"{HERE}:{line_of('plain own')}." in str(own.value)
    return str(raised.value)


@pytest.mark.anyio
@pytest.mark.parametrize("settings", [{}, {"manual_commit": "forbid"}], ids=["atomic", "forbid"])
async def test_a_commit_of_a_library_is_told_with_its_line_and_ours_in_async_code(
    tmp_path, library, settings
):
    """The library's line says what to switch off, the application's where."""
    told = await commit_in_a_block(f"sqlite:///{tmp_path}/a.db", library, **settings)
    asked = f"crudkit/crud.py:6, which was called at {__file__}:{line_of('async library')}."
    assert asked in told


@pytest.mark.parametrize("settings", [{}, {"manual_commit": "forbid"}], ids=["atomic", "forbid"])
def test_a_commit_of_a_library_is_told_with_its_line_and_ours(tmp_path, library, settings):
    """The library's line says what to switch off, the application's where."""
    told = commit_in_a_plain_block(f"sqlite:///{tmp_path}/a.db", library, **settings)
    asked = f"crudkit/crud.py:3, which was called at {__file__}:{line_of('plain library')}."
    assert asked in told


@pytest.mark.worlds(places=("scope",))
def test_a_listener_learns_the_line_of_the_application(world: World, library):
    """In every driver: of a statement and of a flush, past a library, and past the greenlet."""
    run = told_sync if world.driver in SYNC else told_async
    told = run(world, library)
    names = ("statement", "library", "flush", "verb") if world.is_async else PLAIN
    assert told == [f"{__file__}:{line_of(name)}" for name in names]


PLAIN = ("plain statement", "plain read", "plain flush", "plain verb")


def listened(database: Any) -> list[str | None]:
    """Write down the line of each statement on our table."""
    told: list[str | None] = []

    @event.listens_for(plain_engine(database), "before_cursor_execute")
    def on_statement(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "item" in statement:
            told.append(callsite())

    return told


def told_async(world: World, library: ModuleType) -> list[str | None]:
    import asyncio

    db: Any = world.database
    told = listened(db)

    async def story() -> None:
        async with db.scope():
            await db.session.execute(select(Item))  # statement
            await library.read_async(db.session, select(Item))  # library
            db.session.add(Item(name="a"))
            await db.session.flush()  # flush
            await db.scalar(text("SELECT name FROM item"))  # verb
        await db.dispose()

    asyncio.run(story())
    return told


def told_sync(world: World, library: ModuleType) -> list[str | None]:
    db: Any = world.database
    told = listened(db)
    with db.scope():
        db.session.execute(select(Item))  # plain statement
        library.read(db.session, select(Item))  # plain read
        db.session.add(Item(name="a"))
        db.session.flush()  # plain flush
        db.scalar(text("SELECT name FROM item"))  # plain verb
    db.dispose()
    return told
