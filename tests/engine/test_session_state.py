"""`reset_session`: nothing that a scope has left in its session of the server is there again."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from dbscope import AsyncDatabase, ConfigurationError, Database
from tests.support.look import until
from tests.support.proxy import Proxy
from tests.worlds import (
    DRIVERS,
    SYNC,
    Both,
    Item,
    World,
    insert,
    is_postgresql,
    is_sqlite,
    plain_engine,
)

servers = pytest.mark.worlds(drivers=lambda each: not is_sqlite(each), places=["scope"])
ON_POSTGRESQL = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
ON_MARIADB = pytest.mark.worlds(drivers=lambda each: DRIVERS[each][:5] == "mysql", places=["scope"])
ONE = {"pool_size": 1, "max_overflow": 0}

# What is left, and the question that tells whether it is there (1) or not (0).
LEFT = {
    "postgresql": {
        "advisory lock": (
            "SELECT pg_advisory_lock(7)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        ),
        "SET": (
            "SET statement_timeout = '77s'",
            "SELECT count(*) FROM pg_settings WHERE name = 'statement_timeout' "
            "AND setting = '77000'",
        ),
        "SET of a name of its own": (
            "SET app.tenant = 'a'",
            "SELECT count(*) WHERE current_setting('app.tenant', true) = 'a'",
        ),
        "role": (
            "SET ROLE pg_read_all_data",
            "SELECT count(*) WHERE current_user = 'pg_read_all_data'",
        ),
        "user": (
            "SET SESSION AUTHORIZATION pg_read_all_data",
            "SELECT count(*) WHERE session_user = 'pg_read_all_data'",
        ),
        "temporary table": (
            "CREATE TEMPORARY TABLE left_over (id int)",
            "SELECT count(*) FROM pg_class WHERE relname = 'left_over' "
            "AND relnamespace = pg_my_temp_schema()",
        ),
        "LISTEN": ("LISTEN news", "SELECT count(*) FROM pg_listening_channels()"),
        "prepared statement": (
            'PREPARE "Left over" AS SELECT 1',
            "SELECT count(*) FROM pg_prepared_statements WHERE from_sql",
        ),
        "cursor": (
            "DECLARE left_over CURSOR WITH HOLD FOR SELECT 1",
            "SELECT count(*) FROM pg_cursors WHERE name = 'left_over'",
        ),
    },
    "mysql": {
        "lock": ("DO GET_LOCK('left', 0)", "SELECT IS_USED_LOCK('left') <=> CONNECTION_ID()"),
        "SET": (
            "SET SESSION sort_buffer_size = 777216",
            "SELECT @@SESSION.sort_buffer_size = 777216",
        ),
        "user variable": ("SET @tenant = 'a'", "SELECT @tenant <=> 'a'"),
        "temporary table": (
            "CREATE TEMPORARY TABLE left_over AS SELECT 1 AS id",
            "SELECT count(*) FROM information_schema.temporary_tables "
            "WHERE table_name = 'left_over'",
        ),
        "prepared statement": (
            "PREPARE left_over FROM 'SELECT 1'",
            "SELECT variable_value FROM information_schema.session_status "
            "WHERE variable_name = 'Prepared_stmt_count'",
        ),
        "database": ("USE information_schema", "SELECT DATABASE() = 'information_schema'"),
    },
}
CASES = [(backend, what) for backend, all_of_it in LEFT.items() for what in all_of_it]
WRITES = {"temporary table", "LISTEN"}  # refused where nothing can be written


def use(world: World, **settings: Any) -> None:
    """Make the database of a world anew: with one connection, so that it comes again."""
    settings = {"reset_session": True, "engine_options": ONE} | settings
    world.database = type(world.database)(world.url, **settings)


def one(db: Both, question: str) -> Any:
    """Ask the session of the current scope."""
    return db.scalar(text(question))


def session_of(db: Both) -> Any:
    """Return which session of the server it is."""
    on_postgresql = db.real.url.get_backend_name() == "postgresql"
    return one(db, f"SELECT {'pg_backend_pid' if on_postgresql else 'CONNECTION_ID'}()")


def left_in(world: World, what: str) -> tuple[str, str]:
    """Return how to leave something, and how to ask for it; its test is not told elsewhere."""
    return LEFT[world.look.url.get_backend_name()][what]


def of_backend(backend: str) -> Callable[[str], bool]:
    """Return which drivers are of a backend."""
    return lambda driver: DRIVERS[driver].startswith(backend)


def leave_and_ask(world: World, leave: str, ask: str, how: str, *, resets: bool) -> None:
    """Leave something in a session, in one way or another, and ask for it in the next scope."""
    scope = {"readonly": True} if how == "read-only" else {}

    def story(db: Both) -> None:
        with suppress(ZeroDivisionError), db.scope(**scope):
            first = session_of(db)
            db.execute(text(leave))
            assert int(one(db, ask)) == 1
            if how == "after an error":
                if "ROLE" in leave or "AUTHORIZATION" in leave or leave.startswith("SET "):
                    db.session.commit()  # a ROLLBACK undoes SET
                raise ZeroDivisionError
        with db.scope(**scope):
            assert session_of(db) == first
            left = int(one(db, ask))
        assert left == 0 or not resets

    world.play(story)


@pytest.mark.parametrize("how", ["plain", "read-only", "after an error"])
@pytest.mark.parametrize("what", LEFT["postgresql"])
@ON_POSTGRESQL
def test_what_was_left_in_postgresql_is_gone(world: World, what: str, how: str) -> None:
    """Read back from the same session of the server, by the next scope."""
    use(world)
    if how == "read-only" and what in WRITES:
        pytest.fail("not told")
    leave_and_ask(world, *left_in(world, what), how, resets=True)


@pytest.mark.parametrize("how", ["plain", "read-only", "after an error"])
@pytest.mark.parametrize("what", LEFT["mysql"])
@ON_MARIADB
def test_what_was_left_in_mariadb_is_gone(world: World, what: str, how: str) -> None:
    """Read back from the same session of the server, by the next scope."""
    use(world)
    leave_and_ask(world, *left_in(world, what), how, resets=True)
