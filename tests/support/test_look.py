"""Those who look at one database, one after the other, find nothing of each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.look import LastingOnlooker, Onlooker
from tests.support.postgres import PostgresServer

STATE = {  # what one leaves behind, and what the next one asks
    "a setting": ("SET statement_timeout = 5000", "SHOW statement_timeout"),
    "a table": ("CREATE TEMP TABLE mine (i int)", "SELECT to_regclass('mine')::text"),
    "a lock": ("SELECT pg_advisory_lock(1)", "SELECT count(*) FROM pg_locks WHERE objid = 1"),
    "a transaction": ("BEGIN", "SELECT now() = statement_timestamp()"),
    "a failure": ("BEGIN; LOCK TABLE pg_class IN SHARE MODE", "SELECT 1"),
}
PID = "SELECT pg_backend_pid()"


@pytest.fixture
def url(postgres: PostgresServer, postgres_url: str) -> Iterator[str]:
    """An empty database, of which nothing is kept afterwards."""
    kept = dict(LastingOnlooker.kept)
    LastingOnlooker.kept.clear()
    yield postgres_url
    LastingOnlooker.close_all()
    LastingOnlooker.kept.update(kept)


@pytest.mark.parametrize(("leave", "ask"), STATE.values(), ids=STATE.keys())
def test_what_one_has_left_is_not_there_for_the_next(url: str, leave: str, ask: str) -> None:
    """As if each had a connection of its own."""
    with LastingOnlooker(url) as first:
        expected = first.scalar(ask)
        first.execute(leave)
    with LastingOnlooker(url) as second:
        assert second.scalar(ask) == expected
        assert second.scalar("SHOW lock_timeout") == "10s"


def test_a_connection_serves_one_after_the_other_by_whichever_driver(url: str) -> None:
    """Which is what it is for; two at once have one each."""
    with LastingOnlooker(url) as first, LastingOnlooker(url) as beside:
        pids = {first.scalar(PID), beside.scalar(PID)}
        assert len(pids) == 2
    with LastingOnlooker(url.replace("psycopg", "asyncpg")) as second:
        assert second.scalar(PID) in pids
        assert second.backends() == []


def test_one_that_was_lost_is_made_anew(url: str) -> None:
    """A test may kill it."""
    with LastingOnlooker(url) as first:
        pid = first.scalar(PID)
    with Onlooker(url) as other:
        assert other.scalar("SELECT pg_terminate_backend(?::int, 5000)", pid)
    with LastingOnlooker(url) as second:
        assert second.scalar(PID) != pid


def test_one_that_was_lost_while_it_looked_is_forgotten(url: str) -> None:
    """And says nothing about it when it is closed."""
    with LastingOnlooker(url) as first, Onlooker(url) as other:
        assert other.scalar("SELECT pg_terminate_backend(?::int, 5000)", first.scalar(PID))
    with LastingOnlooker(url) as second:
        assert second.scalar("SELECT 1") == 1
