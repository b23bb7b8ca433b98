"""What is known about a statement before SQLite runs it: whether it may stay on the event loop."""

import sqlite3
from collections.abc import Iterator

import pytest

from dbscope.sqlite_inline import classify
from dbscope.sqlite_inline.classify import Kind, Statements

TABLES = """
CREATE TABLE item (id integer PRIMARY KEY, name text UNIQUE, kind int, size int);
CREATE INDEX item_kind ON item (kind);
CREATE TABLE child (id integer PRIMARY KEY, item_id int REFERENCES item (id) ON DELETE CASCADE);
CREATE TABLE late (id integer PRIMARY KEY,
  item_id int REFERENCES other (id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE other (id integer PRIMARY KEY, name text);
CREATE TABLE pair (a int, b int, c int, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE logged (id integer PRIMARY KEY, name text);
CREATE TRIGGER seen AFTER INSERT ON logged BEGIN UPDATE other SET name = 'x' WHERE name = 'y'; END;
CREATE TABLE noted (id integer PRIMARY KEY, name text);
CREATE TRIGGER note AFTER INSERT ON noted BEGIN INSERT INTO other (name) VALUES (NEW.name); END;
CREATE VIRTUAL TABLE words USING fts5 (word);
"""


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """Return a connection that has the tables."""
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.executescript("PRAGMA foreign_keys = ON;" + TABLES)
    yield made
    made.close()


def kind_of(connection: sqlite3.Connection, sql: str) -> Kind:
    """Return the kind of a statement, asked for the first time."""
    return Statements().kind_of(connection, sql, [1] * sql.count("?"))


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO item (name) VALUES (?)",
        "INSERT INTO other (name) VALUES (?) RETURNING id, name",
        "INSERT INTO item (name) VALUES (?), (?), (?) RETURNING id",
        "INSERT INTO other (name) VALUES (?) ON CONFLICT (id) DO UPDATE SET name = 'x'",
        "INSERT OR IGNORE INTO item (name) VALUES (?)",
        "INSERT INTO other (name) SELECT name FROM item WHERE id = ?",
        "INSERT INTO child (item_id) VALUES (?)",
        "INSERT INTO noted (name) VALUES (?)",
        "REPLACE INTO pair VALUES (?, ?, ?)",
        "UPDATE item SET size = size + 1 WHERE id = ?",
        "UPDATE item SET size = 1 WHERE name = ?",
        "UPDATE pair SET c = 1 WHERE a = ? AND b = ?",
        "UPDATE other SET name = 'x' WHERE id IN (?, ?, ?)",
        "DELETE FROM child WHERE id = ?",
        "-- of a library\n/* which says so */ UPDATE item SET size = 1 WHERE id = ? RETURNING size",
        "WITH one AS (SELECT 1 AS n) INSERT INTO pair SELECT n, n, n FROM one",
    ],
)
def test_what_takes_every_step_once_stays_on_the_loop(
    connection: sqlite3.Connection, sql: str
) -> None:
    """Its time does not depend on how many rows there are."""
    assert kind_of(connection, sql) is Kind.SHORT


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE item SET size = 1",
        "UPDATE item SET size = 1 WHERE size = ?",
        "UPDATE item SET size = 1 WHERE kind = ?",
        "UPDATE pair SET c = 1 WHERE a = ?",
        "UPDATE other SET name = (SELECT count(*) FROM item) WHERE id = ?",
        "UPDATE other SET name = (SELECT max(size) FROM item) WHERE id = ?",
        "DELETE FROM other",
        "DELETE FROM item WHERE id = ?",  # its children go, too
        "INSERT INTO other (name) SELECT name FROM item",
        "INSERT INTO other (name) SELECT value FROM json_each(?)",
        "INSERT INTO logged (name) VALUES (?)",
        "INSERT INTO words VALUES (?)",
        """WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ?)
        INSERT INTO other (id) SELECT n FROM c""",
        "DELETE FROM other WHERE id IN (SELECT size FROM item)",
        "REINDEX item",
        "ANALYZE",
    ],
)
def test_a_write_that_goes_through_rows_is_long(connection: sqlite3.Connection, sql: str) -> None:
    """Nothing can be ended in the middle of a write without the end of its transaction."""
    assert kind_of(connection, sql) is Kind.LONG


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT * FROM item", Kind.READ),
        ("  /* x */ select 1", Kind.READ),
        ("VALUES (1)", Kind.READ),
        ("EXPLAIN SELECT 1", Kind.READ),
        ("WITH one AS (SELECT 1) SELECT * FROM one", Kind.READ),
        ("SAVEPOINT a", Kind.CONTROL),
        ("RELEASE a", Kind.CONTROL),
        ("ROLLBACK TO a", Kind.CONTROL),
        ("rollback transaction to savepoint a", Kind.CONTROL),
        ("/* of a library */ ROLLBACK -- only\nTO a", Kind.CONTROL),
        ("/* of a library */ ROLLBACK", Kind.ROLLBACK),
        ("PRAGMA foreign_keys = OFF", Kind.CONTROL),
        ("/* of a library */ PRAGMA foreign_keys = OFF", Kind.CONTROL),
        ("PRAGMA journal_mode = WAL", Kind.OTHER),
        ("ATTACH 'x' AS y", Kind.OTHER),
        ("VACUUM", Kind.OTHER),
        ("CREATE TABLE a (b)", Kind.SCHEMA),
        ("DROP TABLE item", Kind.SCHEMA),
        ("BEGIN EXCLUSIVE", Kind.BEGIN),
        ("END", Kind.COMMIT),
        ("ROLLBACK", Kind.ROLLBACK),
        ("nonsense", Kind.SCHEMA),
        ("", Kind.SCHEMA),
    ],
)
def test_the_rest_is_known_by_its_first_word(
    connection: sqlite3.Connection, sql: str, kind: Kind
) -> None:
    """Whatever the case, and whatever comments stand before."""
    assert kind_of(connection, sql) is kind


def test_what_sqlite_refuses_is_asked_again(connection: sqlite3.Connection) -> None:
    """The table may be there the next time."""
    known, sql = Statements(), "INSERT INTO missing VALUES (1)"
    assert known.kind_of(connection, sql, ()) is Kind.LONG
    connection.execute("CREATE TABLE missing (a)")
    assert known.kind_of(connection, sql, ()) is Kind.SHORT


def test_what_is_known_has_an_end(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that makes ever new texts does not fill the memory."""
    monkeypatch.setattr(classify, "KEPT", 10)
    known = Statements()
    for number in range(35):
        known.kind_of(connection, f"SELECT {number}", ())
    assert len(known._kinds) <= 10


def test_a_kept_statement_is_not_asked_about_after_a_change_of_tables(
    connection: sqlite3.Connection,
) -> None:
    """SQLite shows a prepared EXPLAIN as it was made, with pointers to what was freed since."""
    known, sql = Statements(), "INSERT INTO fresh (name) VALUES (?) RETURNING id"
    for _ in range(50):
        connection.execute("CREATE TABLE fresh (id integer PRIMARY KEY, name text UNIQUE)")
        assert known.kind_of(connection, sql, ["a"]) is Kind.SHORT
        connection.execute("DROP TABLE fresh")
        known.forget()
