"""The tools of the tests do what they say; otherwise the tests prove nothing."""

import sqlite3

import psycopg
import pytest


def test_new_database(postgres, look):
    one = look(postgres.new_database("one"))
    two = look(postgres.new_database("two", driver="asyncpg"))
    one.execute("CREATE TABLE t (i int)")
    assert one.scalar("SELECT count(*) FROM pg_tables WHERE tablename = ?", "t") == 1
    assert two.scalar("SELECT count(*) FROM pg_tables WHERE tablename = ?", "t") == 0


def test_kill9_keeps_what_was_committed(private_postgres):
    with private_postgres.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS i")
        private_postgres.kill9()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        private_postgres.connect()
    private_postgres.start()
    with private_postgres.connect() as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SELECT i FROM t").fetchone() == (1,)
