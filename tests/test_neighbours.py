"""What an application has already, and keeps: engine, middlewares, scripts, schemas."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import Delete, Insert, Update, create_engine, event, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from dbscope import AsyncDatabase, Database, DBSessionMiddleware
from tests.support.look import Onlooker
from tests.worlds import SYNC, Both, Item, World, insert, is_postgresql, plain_engine, waiting

ONE = pytest.mark.worlds(places=("scope",))


# -- an engine that is there -----------------------------------------------------------------------


def with_engine(world: World, **options: Any) -> Any:
    """Return a database of this world that was given its engine."""
    if world.driver in SYNC:
        return Database(engine=create_engine(world.url, **options))
    return AsyncDatabase(engine=create_async_engine(world.url, **options))


@ONE
def test_a_given_engine_commits_rolls_back_and_nests(world: World) -> None:
    """What a database made from a URL does, one made from an engine does."""
    world.database = with_engine(world)

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "kept")
            with pytest.raises(ZeroDivisionError), db.atomic():
                insert(db, "undone")
                raise ZeroDivisionError
            db.session.commit()
            db.session.add(Item(name="after a commit"))
        with pytest.raises(ZeroDivisionError), db.scope():
            insert(db, "gone")
            raise ZeroDivisionError

    world.play(story)
    assert world.items() == ["kept", "after a commit"]


@ONE
def test_a_given_engine_cannot_write_in_a_read_only_scope(world: World) -> None:
    """By the server's refusal, also for what we cannot see: a function, or text that reads."""
    world.database = with_engine(world)

    def story(db: Both) -> str:
        with db.scope(readonly=True):
            if world.driver.startswith(("psycopg", "asyncpg")):
                return str(db.scalar(select(func.current_setting("transaction_read_only"))))
            return str(len(db.execute(select(Item)).all()))

    assert world.play(story) == ("on" if is_postgresql(world.driver) else "0")


@pytest.mark.worlds(places=("scope",), drivers=is_postgresql)
def test_a_given_engine_takes_an_isolation_level(world: World) -> None:
    """And gives it back: the next transaction has the engine's own."""
    world.database = with_engine(world)

    def level(db: Both) -> str:
        return str(db.scalar(select(func.current_setting("transaction_isolation"))))

    def story(db: Both) -> list[str]:
        with db.atomic(isolation="SERIALIZABLE"):
            first = level(db)
        with db.scope():
            return [first, level(db)]

    assert world.play(story) == ["serializable", "read committed"]


@ONE
def test_a_given_engine_is_disposed_with_its_database(world: World) -> None:
    """`install()` and `dispose()` end its connections: an application need not do it, too."""
    world.database = with_engine(world)
    world.play(lambda db: db.ping())
    assert plain_engine(world.database).pool.checkedin() == 0


# -- a list of middlewares -------------------------------------------------------------------------


@pytest.mark.parametrize("installs", [False, True], ids=["list", "list and install()"])
@pytest.mark.parametrize("kind", [Database, AsyncDatabase])
def test_the_middleware_may_stand_in_a_list(tmp_path: Path, kind: Any, installs: bool) -> None:
    """One scope for a request, whether `install()` is called as well; which also disposes."""
    db = kind(f"sqlite:///{tmp_path}/app.db")
    app = FastAPI(middleware=[Middleware(DBSessionMiddleware)])
    if installs:
        db.install(app)
        db.install(app)
    assert [m.cls for m in app.user_middleware].count(DBSessionMiddleware) == 1

    if kind is AsyncDatabase:

        @app.post("/{name}")
        async def write(name: str, session: AsyncSession = Depends(db.get_session)) -> bool:  # noqa: B008, FAST002
            await session.execute(text("CREATE TABLE IF NOT EXISTS t (name)"))
            await session.execute(text("INSERT INTO t VALUES (:name)"), {"name": name})
            return session is db.session
    else:

        @app.post("/{name}")
        def write(name: str, session: Session = Depends(db.get_session)) -> bool:  # noqa: B008, FAST002
            session.execute(text("CREATE TABLE IF NOT EXISTS t (name)"))
            session.execute(text("INSERT INTO t VALUES (:name)"), {"name": name})
            return session is db.session

    with TestClient(app) as client:
        assert client.post("/cup").json() is True
        assert client.post("/plate").json() is True
    if not installs:
        asyncio.run(db.dispose()) if kind is AsyncDatabase else db.dispose()
    assert db.stats()["pool_checked_out"] == 0
    assert plain_engine(db).pool.checkedin() == 0
    with Onlooker(f"sqlite:///{tmp_path}/app.db") as look:
        assert look.rows("SELECT name FROM t") == [("cup",), ("plate",)]


# -- callers outside of requests -------------------------------------------------------------------

MODELS = """
from dbscope import AsyncDatabase, Database
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase): pass

class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

db = AsyncDatabase("sqlite:///app.db")
"""
ASYNC = """
import asyncio
from models import *

async def store(session):
    session.add(Item(name="first"))

async def main():
    await db.ensure_schema(Base.metadata)
    {}

asyncio.run(main())
"""
PLAIN = """
from models import *
db = db.sync

def store(session):
    session.add(Item(name="first"))

db.ensure_schema(Base.metadata)
{}
"""
SCRIPTS = {
    "async scope": (ASYNC, "async with db.scope(): await store(db.session)"),
    "plain scope": (PLAIN, "with db.scope(): store(db.session)"),
    "async block": (ASYNC, "async with db.atomic(): await store(db.session)"),
    "plain block": (PLAIN, "with db.atomic(): store(db.session)"),
    "async nothing": (ASYNC, "await store(db.session)"),
    "plain nothing": (PLAIN, "store(db.session)"),
    "async dependency": (ASYNC, "await store(await db.get_session())"),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_stores_in_a_scope_and_is_told_so_outside_of_one(
    name: str, tmp_path: Path
) -> None:
    """`initial_data.py`: what ends normally has stored, and what cannot store does not."""
    script, body = SCRIPTS[name]
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "initial_data.py").write_text(textwrap.dedent(script).format(body))
    done = subprocess.run(
        [sys.executable, "initial_data.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    with Onlooker(f"sqlite:///{tmp_path}/app.db") as look:
        stored = look.rows("SELECT name FROM item")
    if name.endswith(("nothing", "dependency")):
        assert (done.returncode, stored) == (1, [])
        assert "dbscope.errors.ScopeMissing: database 'default' was used outside" in done.stderr
        assert "db.scope()" in done.stderr
    else:
        assert (done.returncode, stored) == (0, [("first",)]), done.stderr


# -- a session that chooses its engine -------------------------------------------------------------


def routing(world: World) -> tuple[Any, Any, list[str]]:
    """Return a database whose session has two engines, the one that reads, and which it took."""
    make: Any = create_engine if world.driver in SYNC else create_async_engine
    engines = {"writer": make(world.url), "reader": make(world.url)}
    plain = {name: getattr(one, "sync_engine", one) for name, one in engines.items()}
    taken: list[str] = []
    for name, engine in plain.items():
        event.listen(engine, "begin", lambda conn, name=name: taken.append(name))

    class Routing(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None, **kwargs: Any) -> Any:
            writes = self._flushing or isinstance(clause, Insert | Update | Delete)
            return plain["writer" if writes else "reader"]

    if world.driver in SYNC:
        database: Any = Database(engine=engines["writer"], session_class=Routing)
        return database, engines["reader"], taken
    session = type("AsyncRouting", (AsyncSession,), {"sync_session_class": Routing})
    database = AsyncDatabase(engine=engines["writer"], session_class=session)
    return database, engines["reader"], taken


@ONE
def test_a_session_may_choose_one_engine_of_several(world: World) -> None:
    """A scope that only reads takes the reader, one that only writes the writer; each is whole."""
    world.database, reader, taken = routing(world)

    def story(db: Both) -> list[str]:
        with db.scope():
            insert(db, "written")
        with pytest.raises(ZeroDivisionError), db.scope():
            insert(db, "undone")
            raise ZeroDivisionError
        with db.scope():
            names = list(db.session.scalars(select(Item.name)).all())
        waiting(reader.dispose)()
        return names

    assert world.play(story) == ["written"]
    assert taken == ["writer", "writer", "reader"]
    assert world.items() == ["written"]


# -- a schema for each tenant ----------------------------------------------------------------------

tenant: ContextVar[str] = ContextVar("tenant")
on_schemas = pytest.mark.worlds(places=("scope",), drivers=is_postgresql)


@pytest.fixture
def schemas(world: World) -> Iterator[list[str]]:
    """Make a schema with the table for each of two tenants."""
    names = ["tenant_a", "tenant_b"]
    for name in names:
        world.look.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        world.look.execute(f"CREATE SCHEMA {name}")
        world.look.execute(f"CREATE TABLE {name}.item (LIKE public.item INCLUDING ALL)")
    yield names
    for name in names:
        world.look.execute(f"DROP SCHEMA {name} CASCADE")


def stored(world: World, schema: str) -> list[str]:
    """Return the names that are stored in a schema, in the order of their alphabet."""
    return [name for (name,) in world.look.rows(f"SELECT name FROM {schema}.item ORDER BY name")]


WORK = ["added", "before commit", "block", "bulk", "committed", "hook", "inner", "savepoint"]


def work(db: Both) -> list[str]:
    """Write by every way there is, and return what each way of reading sees."""

    async def add_async(name: str) -> None:
        db.real.session.add(Item(name=name))

    def add(name: str) -> Any:
        return add_async(name) if db.is_async else db.session.add(Item(name=name))

    with db.scope():
        add_now(db, "added")
        db.session.commit()
        add_now(db, "committed")
        with db.atomic(), db.atomic():
            add_now(db, "block")
        with db.session.begin_nested():
            add_now(db, "savepoint")
        with db.scope():
            add_now(db, "inner")
        db.session.execute(Item.__table__.insert(), [{"name": "bulk"}])
        db.before_commit(lambda: add("before commit"))
        db.on_commit(lambda: add("hook"))
    seen = []
    for settings in ({}, {"atomic": False}, {"readonly": True}):
        with db.scope(**settings):
            seen.append(len(db.session.scalars(select(Item.name)).all()))
    return seen


def add_now(db: Both, name: str) -> None:
    """Add, and let whoever comes next flush: some of these are flushed by COMMIT."""
    db.session.add(Item(name=name)) if not db.is_async else db.real.session.add(Item(name=name))


@on_schemas
def test_the_engine_may_say_which_schema(world: World, schemas: list[str]) -> None:
    """Through commits, hooks, inner scopes, savepoints, autocommit and the read-only pool."""
    kind: Any = Database if world.driver in SYNC else AsyncDatabase
    options = {"execution_options": {"schema_translate_map": {None: "tenant_a"}}}
    world.database = kind(world.url, engine_options=options)
    assert world.play(work) == [len(WORK)] * 3
    assert (stored(world, "tenant_a"), world.items()) == (WORK, [])


@on_schemas
def test_each_transaction_may_be_told_its_schema(world: World, schemas: list[str]) -> None:
    """By `after_begin`, which comes with every transaction, whatever begins it: also by a flush."""

    class OfTenant(Session): ...

    @event.listens_for(OfTenant, "after_begin")
    def on_begin(session: Any, transaction: Any, connection: Any) -> None:
        connection.execution_options(schema_translate_map={None: tenant.get()})

    if world.driver in SYNC:
        world.database = Database(world.url, session_class=OfTenant)
    else:
        session = type("AsyncOfTenant", (AsyncSession,), {"sync_session_class": OfTenant})
        world.database = AsyncDatabase(world.url, session_class=session)

    def story(db: Both) -> list[list[str]]:
        seen = []
        for name in schemas:
            tenant.set(name)
            seen.append(work(db))
        return seen

    assert world.play(story) == [[len(WORK)] * 3] * 2
    assert [stored(world, name) for name in schemas] == [WORK, WORK]
    assert world.items() == []


# -- objects after a commit ------------------------------------------------------------------------


@ONE
@pytest.mark.parametrize("expires", [False, True])
def test_objects_keep_what_they_know_after_a_commit(world: World, expires: bool) -> None:
    """`expire_on_commit=False` is our default; SQLAlchemy's own reads each object again."""
    kind: Any = Database if world.driver in SYNC else AsyncDatabase
    options = {"session_options": {"expire_on_commit": True}} if expires else {}
    world.database = kind(world.url, **options)
    sent: list[str] = []
    event.listen(
        plain_engine(world.database),
        "before_cursor_execute",
        lambda conn, cursor, statement, *rest: sent.append(statement.split()[0]),
    )

    def story(db: Both) -> str:
        with db.scope():
            item = insert(db, "cup")
            db.session.commit()
            sent.clear()
            return item.name

    assert world.play(story) == "cup"
    assert sent.count("SELECT") == expires
