"""The attributes of `sqlite+inline` are those of what it takes the place of."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects.sqlite import aiosqlite
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from dbscope.sqlite_inline import pysqlite
from dbscope.sqlite_inline.cursor import Cursor

pytestmark = pytest.mark.anyio

# What is left out, and why.
OF_THE_ADAPTER = {
    "create": "makes an adapter, which the dialect does",
    "dbapi": "the adapter's own",
    "nextset": "neither driver has it, so the adapter's fails",
}
OF_SQLITE3 = {"connection": "the driver's", "row_factory": "the connection has it for all"}


@pytest.fixture
async def dbapi(tmp_path: Path) -> AsyncIterator[Any]:
    """Return a DBAPI connection to a file with a table."""
    engine = create_async_engine(f"sqlite+inline:///{tmp_path / 'a.db'}")
    raw = await engine.raw_connection()
    await greenlet_spawn(raw.dbapi_connection.execute, "CREATE TABLE item (name text)")  # type: ignore[union-attr]
    yield raw.dbapi_connection
    raw.close()
    await engine.dispose()


def public(thing: Any) -> set[str]:
    """Return the names of what everybody may use."""
    return {name for name in dir(thing) if not name.startswith("_")}


async def test_a_connection_has_what_sqlite3_and_the_adapter_of_aiosqlite_have(dbapi: Any) -> None:
    """Each name, but for those of a list."""
    wanted = public(sqlite3.Connection) | public(aiosqlite.AsyncAdapt_aiosqlite_connection)
    assert {name for name in wanted if not hasattr(dbapi, name)} <= set(OF_THE_ADAPTER)


async def test_a_cursor_has_what_sqlite3_and_the_adapter_of_aiosqlite_have(dbapi: Any) -> None:
    """Each name, but for those of two lists."""
    wanted = public(sqlite3.Cursor) | public(aiosqlite.AsyncAdapt_aiosqlite_cursor)
    assert wanted - public(Cursor) <= set(OF_THE_ADAPTER) | set(OF_SQLITE3)


async def test_without_an_isolation_level_each_statement_is_a_transaction(dbapi: Any) -> None:
    """None commits what is open, as `sqlite3` does; any other begins transactions again."""

    def story() -> None:
        dbapi.begin_later()
        dbapi.execute("INSERT INTO item VALUES ('a')")
        assert dbapi.in_transaction
        dbapi.isolation_level = None
        assert (dbapi.isolation_level, dbapi.in_transaction) == (None, False)
        dbapi.begin_later()
        dbapi.execute("INSERT INTO item VALUES ('b')")
        assert not dbapi.in_transaction
        dbapi.isolation_level = "exclusive"
        sent: list[str] = []
        dbapi.set_trace_callback(sent.append)
        dbapi.begin_later()
        dbapi.execute("INSERT INTO item VALUES ('c')")
        assert "BEGIN EXCLUSIVE" in sent
        dbapi.rollback()
        with pytest.raises(ValueError, match="isolation_level"):
            dbapi.isolation_level = "SNAPSHOT"
        assert dbapi.execute("SELECT name FROM item").fetchall() == [("a",), ("b",)]

    await greenlet_spawn(story)


@pytest.mark.parametrize("text_factory", [bytes, bytearray])
async def test_factories_make_rows_and_texts_and_disturb_nothing(
    dbapi: Any, text_factory: Any
) -> None:
    """What we ask about a statement is asked without them."""

    def story() -> None:
        dbapi.row_factory = lambda cursor, row: {cursor.description[0][0]: row[0]}
        dbapi.text_factory = text_factory
        dbapi.execute("INSERT INTO item VALUES ('a')")
        dbapi.begin_later()
        dbapi.execute("UPDATE item SET name = 'b'")
        dbapi.commit()
        assert dbapi.execute("SELECT name FROM item").fetchall() == [{"name": text_factory(b"b")}]
        assert dbapi.row_factory is not None
        assert dbapi.text_factory is text_factory

    await greenlet_spawn(story)


async def test_a_script_a_dump_and_a_copy_are_whole(dbapi: Any, tmp_path: Path) -> None:
    """A script commits first, as with `sqlite3`, and leaves the turn to write to the next."""
    copy = sqlite3.connect(tmp_path / "copy.db", check_same_thread=False)

    def story() -> None:
        dbapi.begin_later()
        dbapi.execute("INSERT INTO item VALUES ('a')")
        dbapi.executescript("INSERT INTO item VALUES ('b'); INSERT INTO item VALUES ('c')")
        assert not dbapi.in_transaction
        assert dbapi.writer.queue.writer is None
        assert sum(line.startswith("INSERT") for line in dbapi.iterdump()) == 3
        assert dbapi.serialize().startswith(b"SQLite format 3")
        dbapi.backup(copy)

    await greenlet_spawn(story)
    assert copy.execute("SELECT count(*) FROM item").fetchone() == (3,)
    copy.close()


def test_a_plain_cursor_takes_its_factory_by_position() -> None:
    """As that of `sqlite3`."""

    class Own(sqlite3.Cursor):
        pass

    connection = sqlite3.connect(":memory:", factory=pysqlite.Connection)
    assert type(connection.cursor(Own)) is Own
    assert type(connection.cursor(factory=Own)) is Own
    assert type(connection.cursor()) is pysqlite.Cursor
    connection.close()
