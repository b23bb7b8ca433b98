"""What ends a transaction, by what the servers do: whatever they end, we have seen coming."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pymysql
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.pq import TransactionStatus
from pymysql.constants import CLIENT, SERVER_STATUS
from sqlalchemy.engine import make_url

from dbscope.engine.sql_text import ending, text_writes
from dbscope.sqlite_inline.classify import Kind, by_words
from dbscope.sqlite_inline.files import attach_on_disk

ENDS = ["COMMIT", "commit", "ROLLBACK", "END", "BEGIN", "START TRANSACTION", "SET autocommit=1"]
HARMLESS = ["SELECT 1", "SELECT 'a'", "SAVEPOINT a", "ROLLBACK TO a", "TO", "WORK", "TRANSACTION"]
SPACES = [";", "; ", " ", "\n", "\t", "\x0b", "\x0c", "\xa0", "\ufeff", "\u2028"]
COMMENTS = ["-- x\n", "--x\n", "#x\n", "/* */", "/* ' */", "/*", "*/", "/*!", "/*!50000", "/*M!"]
QUOTES = ["'", '"', "`", "$$", "$a$", "\\", "E'", "[", "]", "(", ")"]
PIECES = st.lists(st.sampled_from(ENDS + HARMLESS + SPACES + COMMENTS + QUOTES), max_size=9)
FUZZ = settings(
    deadline=None,
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Ends = Callable[[str], bool]  # a text that is sent in a transaction ends it


@pytest.fixture(scope="module")
def sqlite() -> Iterator[Ends]:
    """SQLite."""
    connection = sqlite3.connect(":memory:", isolation_level=None)

    def ends(sql: str) -> bool:
        if not connection.in_transaction:
            connection.execute("BEGIN")
        with suppress(sqlite3.Error, sqlite3.Warning, ValueError):
            connection.execute(sql).close()
        return not connection.in_transaction

    yield ends
    connection.close()


@pytest.fixture(scope="module")
def postgresql(postgres) -> Iterator[Ends]:
    """PostgreSQL, several statements at once: as a text without parameters is sent."""
    url = postgres.new_database("words")
    connection = psycopg.connect(
        make_url(url).set(drivername="postgresql").render_as_string(False), autocommit=True
    )

    def ends(sql: str) -> bool:
        connection.pgconn.exec_(b"ROLLBACK")
        connection.pgconn.exec_(b"BEGIN")
        connection.pgconn.exec_(sql.encode())
        return connection.info.transaction_status == TransactionStatus.IDLE

    yield ends
    connection.close()
    postgres.drop_database(url)


@pytest.fixture(scope="module")
def mysql(mysql_server) -> Iterator[Ends]:
    """MariaDB, likewise."""
    made = mysql_server.new_database("words")
    url = make_url(made)
    connection = pymysql.connect(
        host=url.host,
        port=url.port or 3306,
        user=url.username,
        password=url.password or "",
        database=url.database,
        autocommit=False,
        client_flag=CLIENT.MULTI_STATEMENTS,
    )

    def is_in_transaction() -> bool:
        return bool(connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def ends(sql: str) -> bool:
        connection.query("ROLLBACK")
        connection.query("SET autocommit=0")
        connection.query("START TRANSACTION")
        with suppress(pymysql.MySQLError):
            connection.query(sql)
            while connection._result.has_next:
                connection.next_result()
        return not is_in_transaction()

    yield ends
    connection.close()
    mysql_server.drop_database(made)


def check(family: str, ends: Ends, pieces: list[str]) -> None:
    """Fail if a server ends the transaction by a text in which we have seen nothing of it."""
    sql = "".join(pieces)
    if ends(sql):
        assert ending(sql, family) is not None, repr(sql)
        if family == "sqlite":
            assert by_words(sql) in {Kind.COMMIT, Kind.ROLLBACK}, repr(sql)


@FUZZ
@given(PIECES)
@example(["\ufeff", "COMMIT"])
@example([";", "COMMIT"])
@example(["/*", "; ", "*/", "COMMIT", ";"])
def test_what_sqlite_ends_is_seen(sqlite: Ends, pieces: list[str]) -> None:
    """Whatever stands before it."""
    check("sqlite", sqlite, pieces)


@FUZZ
@given(PIECES)
@example([";", " ", "COMMIT"])
@example(["SELECT 1", ";", "/*", "/*", "*/", "*/", "COMMIT"])
def test_what_postgresql_ends_is_seen(postgresql: Ends, pieces: list[str]) -> None:
    """One of several statements, too."""
    check("postgresql", postgresql, pieces)


@FUZZ
@given(PIECES)
@example(["/*!", "COMMIT", "*/"])
@example(["/*!50000", "COMMIT", "*/"])
@example(["SELECT 1", ";", "/*M!", "ROLLBACK", "*/"])
def test_what_mariadb_ends_is_seen(mysql: Ends, pieces: list[str]) -> None:
    """What it executes of a comment, too."""
    check("mysql", mysql, pieces)


NOISE = ["/**/", "/* a */ ", "-- a\n", "--\n", " ", "\n\n", "\t ", "(", "/*", "'", "$a$", ";", "a"]


@pytest.mark.timeout(150)
@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(NOISE), min_size=1, max_size=3), st.sampled_from(["", "x", ")"]))
@example(["/**/ "], "x")
@example([" "], "x")
def test_no_text_takes_for_ever(noise: list[str], end: str) -> None:
    """Ten thousand times anything, behind every word that is looked for: a moment, not an hour."""
    for head in ("", "PRAGMA ", "ROLLBACK ", "ATTACH ", "SELECT ", "WITH a AS ("):
        sql = head + "".join(noise) * 10_000 + end
        assert any(seconds_for(sql) < 5 for _ in range(3)), "a machine that stalls does so once"


def seconds_for(sql: str) -> float:
    """Look for words, and return the time of this thread that it took."""
    begin = time.thread_time()
    by_words(sql)
    attach_on_disk(sql)
    for family in ("sqlite", "postgresql", "mysql"):
        ending(sql, family)
        text_writes.__wrapped__(sql, family)
    return time.thread_time() - begin
