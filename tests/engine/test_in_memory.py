"""A database in memory that all connections of an engine of `sqlite+inline` share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dbscope.sqlite_inline.connection import InlineConnection
from tests.support.look import Onlooker

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine() -> AsyncIterator[AsyncEngine]:
    """Make an engine."""
    engine = create_async_engine("sqlite+inline:///:memory:")
    yield engine
    await engine.dispose()


async def inline(connection: AsyncConnection) -> InlineConnection:
    """Return the connection of the driver."""
    found = (await connection.get_raw_connection()).dbapi_connection
    assert isinstance(found, InlineConnection)
    return found


async def test_a_commit_in_memory_waits_for_no_disk(engine):
    """So it stays on the loop."""
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE item (name TEXT)"))
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO item VALUES ('a')"))
        assert (await inline(connection)).commits.are_short()


async def test_writers_to_shared_memory_queue(engine):
    """They have one database, so they have one queue."""
    async with engine.connect() as one, engine.connect() as other:
        assert (await inline(one)).writer.queue is (await inline(other)).writer.queue


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH :path AS other",
        "attach database :path as other;",
        "ATTACH DATABASE '{path}' AS other",
        "ATTACH 'file:{path}?mode=rwc' AS other",
    ],
)
async def test_a_file_attached_to_memory_is_a_file(engine, tmp_path: Path, look, statement):
    """SQLite would look for it where the main database is."""
    path = tmp_path / "other.db"
    attach = text(statement.format(path=path))
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(attach, {"path": str(path)} if ":path" in statement else {})
        await connection.execute(text("CREATE TABLE other.item (name TEXT)"))
        await connection.execute(text("INSERT INTO other.item VALUES ('a')"))
    onlooker: Onlooker = look(f"sqlite:///{path}")
    assert onlooker.scalar("SELECT name FROM item") == "a"


async def test_memory_attached_to_memory_is_in_memory(engine):
    """Its name stays what it is."""
    async with engine.connect() as connection:
        await connection.execute(text("ATTACH '\\:memory\\:' AS other"))
        databases = await connection.execute(text("PRAGMA database_list"))
        assert [row.file for row in databases if row.name == "other"] == [""]
