"""What a session tells about a statement before it is sent."""

from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.schema import CreateTable

from dbscope.engine.words import writes
from tests.worlds import Item

STORE = text("INSERT INTO item (name) VALUES ('a') RETURNING id, name")

WRITING = [
    insert(Item),
    update(Item),
    delete(Item),
    STORE,
    text(" update item set name = 'a'"),
    text("WITH old AS (SELECT 1) DELETE FROM item"),
    STORE.columns(Item.id, Item.name),
    select(Item).from_statement(STORE),
    select(Item).from_statement(insert(Item).returning(Item)),
    CreateTable(Item.__table__),  # type: ignore[arg-type]
]
READING = [
    select(Item),
    select(Item).union(select(Item)),
    select(Item).with_for_update(),
    text("SELECT 1"),
    text("\n  select 1"),
    text("(SELECT 1)"),
    text("SELECT id, name FROM item").columns(Item.id, Item.name),
    select(Item).from_statement(text("SELECT id, name FROM item")),
    select(Item).from_statement(select(Item)),
    text("PRAGMA user_version"),
]


@pytest.mark.parametrize("statement", WRITING, ids=lambda each: type(each).__name__)
def test_what_will_write_says_so_before_it_begins(statement: Any) -> None:
    """Decision 10: BEGIN IMMEDIATE, since a read lock that becomes a write lock may fail."""
    assert writes(statement) is True


@pytest.mark.parametrize("statement", READING, ids=lambda each: type(each).__name__)
def test_what_only_reads_never_queues_behind_writers(statement: Any) -> None:
    """Decision 10: plain BEGIN."""
    assert writes(statement) is False
