"""What a session tells about a statement before it is sent."""

from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.schema import CreateTable

from dbscope import ReadOnlyViolation
from dbscope.engine.sql_text import ending, text_writes, writes
from tests.worlds import Both, Item, World, is_postgresql
from tests.worlds import insert as add

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


ALL = ["postgresql", "mysql", "sqlite"]
POSTGRESQL, MYSQL, SQLITE = (["postgresql"], ["mysql"], ["sqlite"])
READS = [
    ("-- a comment; INSERT\nSELECT 1", ALL),
    ("/* INSERT */ /**/ SELECT 1", ALL),
    ("/* /* nested */ INSERT */ SELECT 1", POSTGRESQL),
    ("# INSERT\n-- INSERT\nSELECT 1", MYSQL),
    ("/*!40000 SELECT */ 1", MYSQL),
    ("((VALUES (1)))", ALL),
    ("TABLE item", ALL),
    ("SHOW search_path", ALL),
    ("DESCRIBE item", MYSQL),
    ("DESC item", MYSQL),
    ("FETCH 1 FROM c", POSTGRESQL),
    ("DECLARE c CURSOR FOR SELECT 1", POSTGRESQL),
    ("EXPLAIN INSERT INTO item (name) VALUES ('a')", ALL),
    ("EXPLAIN QUERY PLAN DELETE FROM item", SQLITE),
    ("EXPLAIN (COSTS off) DELETE FROM item", POSTGRESQL),
    ("EXPLAIN (ANALYZE) SELECT 1", POSTGRESQL),
    ("EXPLAIN ANALYZE FORMAT=JSON SELECT 1", MYSQL),
    ("WITH a AS (SELECT 1) SELECT * FROM a", ALL),
    ("WITH RECURSIVE a AS (SELECT 1) TABLE a", POSTGRESQL),
    ("WITH update AS (SELECT 1) SELECT * FROM update", ALL),
    ("WITH a AS (SELECT 1 AS delete) SELECT count(delete) FROM a FOR UPDATE OF b", ALL),
    ("WITH a AS (SELECT replace(x, 'b', 'c') FROM d) SELECT (replace(x, 'b', 'c')) FROM a", ALL),
    ("WITH a AS (SELECT '(INSERT INTO b' AS \"(DELETE FROM\") SELECT 1", ALL),
    ("WITH a AS (SELECT $x$ ' (INSERT INTO b $x$, E'\\' (DELETE FROM c') SELECT 1", POSTGRESQL),
    ("WITH a AS (SELECT '\\' (INSERT INTO b', `(DELETE FROM`) SELECT 1", MYSQL),
    ("WITH a AS (SELECT 1 AS [(INSERT INTO b]) SELECT 1", SQLITE),
    ("WITH a AS (SELECT b #> '{c}' FROM d) /* INSERT */ SELECT 1", POSTGRESQL),
]
WRITES = [
    ("-- SELECT\nINSERT INTO item", ALL),
    ("/* SELECT */ DELETE FROM item", ALL),
    ("/*! INSERT INTO item */", MYSQL),
    ("/*M!100100 UPDATE item SET name = 'a' */", MYSQL),
    ("/* /* */ INSERT INTO item", ["mysql", "sqlite"]),
    ("EXPLAIN ANALYZE INSERT INTO item (name) VALUES ('a')", POSTGRESQL),
    ("EXPLAIN (BUFFERS, ANALYZE) WITH a AS (DELETE FROM item RETURNING id) SELECT 1", POSTGRESQL),
    ("WITH a AS (SELECT 1) INSERT INTO item SELECT * FROM a", ALL),
    ("WITH a (b) AS (SELECT 1), c AS (SELECT 2) UPDATE item SET name = 'a'", ALL),
    ("WITH a AS MATERIALIZED (/* */ DELETE FROM item RETURNING id) SELECT * FROM a", POSTGRESQL),
    ("(WITH a AS (UPDATE \"item\" SET name = 'a' RETURNING id) SELECT * FROM a)", POSTGRESQL),
    ("WITH RECURSIVE a AS (SELECT 1) SEARCH DEPTH FIRST BY b SET c DELETE FROM item", POSTGRESQL),
    ("WITH a AS (SELECT b #> '{c}' FROM d) INSERT INTO item SELECT * FROM a", POSTGRESQL),
    ("WITH a AS (SELECT 5--1\n) DELETE FROM item", MYSQL),
    ("CALL anything()", ALL),
    ("DO $$ BEGIN END $$", POSTGRESQL),
    ("", ALL),
]
ENDS = [
    ("COMMIT", ALL),
    ("-- a\n/* b */ commit", ALL),
    ("/* /* */ */ ROLLBACK", POSTGRESQL),
    ("/*! COMMIT */", MYSQL),
    ("# a\nROLLBACK WORK", MYSQL),
    ("SELECT 1; COMMIT", ALL),
    ("INSERT INTO item (name) VALUES (';'); -- a\n END", ALL),
    ("BEGIN", ALL),
    ("START /* */ TRANSACTION", ALL),
    ("PREPARE TRANSACTION 'a'", POSTGRESQL),
    ("SET SESSION autocommit = 1", MYSQL),
    ("SET @@session.autocommit=0", MYSQL),
    ("SET a = 1, autocommit := 0", MYSQL),
]
STAYS = [
    ("ROLLBACK TO SAVEPOINT a", ALL),
    ("ROLLBACK TRANSACTION TO a", ALL),
    ("SELECT '; COMMIT' -- ; COMMIT", ALL),
    ("SELECT 1;", ALL),
    ("CREATE TRIGGER a AFTER INSERT ON b BEGIN DELETE FROM c; END", SQLITE),
    ("CREATE FUNCTION a() BEGIN ATOMIC SELECT 1; END", POSTGRESQL),
    ("BEGIN NOT ATOMIC SELECT 1; COMMIT; END", MYSQL),
    ("SET @autocommit = 1", MYSQL),
]


def cells(cases: list[tuple[str, list[str]]]) -> Any:
    """Return each text with each kind of SQL that it is."""
    each = [(sql, family) for sql, families in cases for family in families]
    return pytest.mark.parametrize(("sql", "family"), each)


@cells(READS)
def test_a_text_that_reads_is_known_by_its_words(sql: str, family: str) -> None:
    """Comments, quotes, and what only explains a statement are no writing."""
    assert text_writes(sql, family) is False
    assert writes(text(sql.replace(":", r"\:")), family) is False


@cells(WRITES)
def test_a_text_that_writes_is_known_by_its_words(sql: str, family: str) -> None:
    """Wherever the verb stands; and what nobody knows is taken to write."""
    assert text_writes(sql, family) is True


@cells(ENDS)
def test_a_text_that_ends_a_transaction_is_seen(sql: str, family: str) -> None:
    """Behind comments, in what MariaDB executes of them, and as one of several statements."""
    assert ending(sql, family) is not None


@cells(STAYS)
def test_a_text_that_ends_no_transaction_is_sent(sql: str, family: str) -> None:
    """Savepoints, quotes, and bodies of functions."""
    assert ending(sql, family) is None


OPENED = [
    "(",
    "/*",
    "'",
    '"',
    "$a$",
    "$",
    "--",
    "/**/",
    "WITH a AS (",
    "\\'",
    "`",
    "[",
    "#",
    "EXPLAIN (",
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("piece", OPENED)
def test_a_text_is_read_once_from_left_to_right(piece: str, family: str) -> None:
    """Nothing that is written for that takes for ever: the words are as many as the signs."""
    for start in ("WITH a AS (", "EXPLAIN ", ""):
        text_writes.__wrapped__(start + piece * 20_000, family)
        ending(start + piece * 20_000, family)


WHERE = pytest.mark.worlds(places=["scope"])


@WHERE
@pytest.mark.parametrize(
    "sql",
    [
        "-- all of them\nSELECT name FROM item",
        "/* all */ SELECT name FROM item",
        "WITH a AS (SELECT name FROM item) SELECT name FROM a",
    ],
)
def test_a_read_in_a_read_only_scope_is_one_however_it_begins(world: World, sql: str) -> None:
    """It is sent, and answered."""

    def story(db: Both) -> None:
        with db.scope():
            add(db, "a")
        with db.scope(readonly=True):
            assert db.scalars(text(sql)).all() == ["a"]

    world.play(story)


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_what_writes_by_a_query_is_refused_unsent_in_a_read_only_scope(world: World) -> None:
    """PostgreSQL's data-modifying WITH."""
    sql = "WITH a AS (DELETE FROM item RETURNING id) SELECT count(*) FROM a"

    def story(db: Both) -> None:
        with db.scope():
            add(db, "a")
        del world.statements[:]
        with db.scope(readonly=True), pytest.raises(ReadOnlyViolation):
            db.scalar(text(sql))
        assert world.statements == []

    world.play(story)
    assert world.items() == ["a"]
