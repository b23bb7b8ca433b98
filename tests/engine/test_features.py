"""A database that nobody knows: what it may be asked for is done, or refused."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg, PGDialectAsync_psycopg

from dbscope import AsyncDatabase, ConfigurationError, Database
from tests.worlds import Both, Item, World, insert, is_postgresql

KINDS = pytest.mark.parametrize("kind", [AsyncDatabase, Database])
on_postgresql = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])


class MineAsync(PGDialectAsync_psycopg):
    """A dialect of somebody else's over a driver that we know."""

    name = "mydb"
    supports_statement_cache = True


class Mine(PGDialect_psycopg):
    """The plain one."""

    name = "mydb"
    supports_statement_cache = True

    @classmethod
    def get_async_dialect_cls(cls, url: Any) -> Any:
        """Return the other."""
        return MineAsync


class MineAsyncpg(PGDialect_asyncpg):
    """Over another driver."""

    name = "mydb"
    supports_statement_cache = True


class Renamed(PGDialect_psycopg):
    """PostgreSQL itself, under another name in the URL."""

    supports_statement_cache = True


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Register them, as a package does by its entry points."""
    registry.register("mydb.psycopg", __name__, "Mine")
    registry.register("mydb.asyncpg", __name__, "MineAsyncpg")
    registry.register("renamed.psycopg", __name__, "Renamed")
    yield
    for name in ("mydb.psycopg", "mydb.asyncpg", "renamed.psycopg"):
        registry.impls.pop(name, None)


ASKED: dict[str, Callable[[Any], object]] = {
    "readonly scope": lambda db: db.scope(readonly=True),
    "readonly block": lambda db: db.atomic(readonly=True),
    "readonly request": lambda db: db.readonly,
    "timeout": lambda db: db.atomic(timeout=1),
}


@KINDS
@pytest.mark.parametrize("what", ASKED)
def test_what_it_would_ignore_is_refused_where_it_is_asked(kind: Any, what: str) -> None:
    """At the decorator, and not at the first request; nothing is connected to."""
    db = kind("mydb+psycopg://nowhere.invalid/x")
    with pytest.raises(ConfigurationError, match="'mydb', where it would be ignored"):
        ASKED[what](db)


@KINDS
@pytest.mark.parametrize("given", [{"verify_commit": True}, {"session_settings": dict}], ids=str)
@pytest.mark.parametrize("url", ["mydb+psycopg://h/x", "sqlite:///a.db", "mysql://h/x"])
def test_what_no_transaction_of_it_would_do_is_refused_at_once(
    kind: Any, given: dict[str, Any], url: str
) -> None:
    """When the database is made."""
    with pytest.raises(ConfigurationError, match="would be ignored"):
        kind(url, **given)


def unknown(world: World) -> None:
    """Let the world's database be one that nobody knows."""
    url = world.url.replace("postgresql+", "mydb+")
    world.database = type(world.database)(url)


@on_postgresql
def test_a_read_only_scope_of_somebody_else_cannot_have_it(world: World) -> None:
    """A scope is one for all databases; this one would write in it."""
    known = type(world.database)(world.url)
    unknown(world)

    def story(db: Both) -> None:
        with Both(known).scope(readonly=True), pytest.raises(ConfigurationError, match="readonly"):
            db.execute(text("SELECT 1"))
        Both(known).dispose()

    world.play(story)


@on_postgresql
@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ"])
def test_what_sqlalchemy_does_for_it_is_done(world: World, level: str) -> None:
    """Transactions, savepoints, and the isolation level, which the server tells."""
    unknown(world)

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            with db.atomic(isolation=level):
                assert db.scalar(text("SHOW transaction_isolation")) == level.lower()
                insert(db, "a")
                with db.atomic() as block:
                    insert(db, "b")
                    block.set_rollback()
            assert db.get_by_pk(Item, 1).name == "a"

    world.play(story)
    assert world.items() == ["a"]


@pytest.mark.worlds(drivers=lambda driver: driver.startswith("psycopg sync"), places=["scope"])
def test_a_dialect_that_says_it_is_postgresql_is_taken_at_its_word(world: World) -> None:
    """The name in the URL is whoever registered it."""
    world.database = Database(world.url.replace("postgresql+", "renamed+"), verify_commit=True)

    def story(db: Both) -> None:
        with db.scope(atomic=False), db.atomic(timeout=5):
            assert db.scalar(text("SHOW statement_timeout")) != "0"
            insert(db, "a")
        with db.scope(readonly=True):
            assert db.scalar(text("SHOW transaction_read_only")) == "on"

    world.play(story)
    assert world.items() == ["a"]
