"""One story, told once and run in every world: driver, sync or async, request or scope or block.

A test's body is a plain function. For an async database it is carried in a greenlet, as SQLAlchemy
carries its own test-suite, so `with db.atomic(): ...` and `db.execute(...)` read the same.
"""

from __future__ import annotations

import asyncio
import functools
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiosqlite  # noqa: F401  (the drivers: whoever is first might be on a loop, and block it)
import asyncmy  # noqa: F401
import asyncpg  # noqa: F401
import pytest
from fastapi import FastAPI
from sqlalchemy import ForeignKey, ForeignKeyConstraint, String, event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.util import await_only, greenlet_spawn

from dbscope import AsyncDatabase, Database
from dbscope.unit.current import current
from tests.asgi import call
from tests.support.look import LastingOnlooker, Onlooker, until


class Base(DeclarativeBase):
    """The tables of the tests."""


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    # MySQL wants a length.
    name: Mapped[str] = mapped_column(
        String().with_variant(String(100), "mysql", "mariadb"), unique=True
    )


class Child(Base):
    """Its foreign key is looked at by COMMIT, not before."""

    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(
        ForeignKey("item.id", deferrable=True, initially="DEFERRED")
    )


@compiles(ForeignKeyConstraint, "mysql", "mariadb")
def not_deferred(constraint: Any, compiler: Any, **kw: Any) -> str:
    """Leave out what MySQL does not know."""
    told = constraint.deferrable, constraint.initially
    constraint.deferrable = constraint.initially = None
    try:
        return compiler.visit_foreign_key_constraint(constraint, **kw)
    finally:
        constraint.deferrable, constraint.initially = told


DRIVERS = {
    "inline": "sqlite+inline",
    "aiosqlite": "sqlite+aiosqlite",
    "sqlite3": "sqlite+pysqlite",
    "psycopg async": "postgresql+psycopg",
    "psycopg sync": "postgresql+psycopg",
    "asyncpg": "postgresql+asyncpg",
    "pymysql": "mysql+pymysql",
    "asyncmy": "mysql+asyncmy",
}
SYNC = {"sqlite3", "psycopg sync", "pymysql"}
MYSQL = {"pymysql", "asyncmy"}

# What a world does not have; a story that needs it is not told there (tests/conftest.py).
MISSING = {
    "a constraint that COMMIT looks at": MYSQL,  # theirs are looked at by the statement
    "a COMMIT that takes long": MYSQL,  # nothing of theirs can be made to wait in COMMIT
    "the tables of the shop": MYSQL,  # tests/crud/test_upsert_mysql.py has what is different there
    "a read without a transaction": MYSQL,  # its drivers begin with the first statement
    "round trips to count": MYSQL,  # the proxy that counts them reads PostgreSQL's protocol
}
needs_late_check = pytest.mark.needs("a constraint that COMMIT looks at")
needs_plain_reads = pytest.mark.needs("a read without a transaction")
needs_slow_commit = pytest.mark.needs("a COMMIT that takes long")
needs_round_trips = pytest.mark.needs("round trips to count")

SLEEP = {
    "postgresql": "SELECT pg_sleep({})",
    "mysql": "SELECT SLEEP({})",
}
# What sqlite+inline asks about a statement, and about a connection before its first COMMIT; and
# what a new connection is told that cannot write.
QUESTIONS = ("EXPLAIN ", "PRAGMA journal_mode", "PRAGMA database_list", "PRAGMA synchronous")
QUESTIONS += ("PRAGMA query_only=ON",)
PLACES = ("scope", "request", "block")


def is_postgresql(driver: str) -> bool:
    """Tell whether a driver is one of PostgreSQL; for the marker `worlds`."""
    return DRIVERS[driver].startswith("postgresql")


def is_sqlite(driver: str) -> bool:
    """Tell whether a driver is one of SQLite; for the marker `worlds`."""
    return DRIVERS[driver].startswith("sqlite")


class Both:
    """A database whose members can be used without `await`, in a greenlet or in a thread."""

    def __init__(self, database: AsyncDatabase | Database) -> None:
        self.real: Any = database
        self.is_async = isinstance(database, AsyncDatabase)

    def __getattr__(self, name: str) -> Any:
        """Give a member of the real one; what it returns to be awaited is awaited."""
        member = getattr(self.real, name)
        if name in OPENING:  # to decorate, there is `decorated`
            return entering(member)
        return waiting(member) if name in WAITING else member

    @property
    def session(self) -> Any:
        """The session, which needs no await either."""
        return BothSession(self.real.session) if self.is_async else self.real.session

    def decorated(self, decorator: Callable[..., Any], function: Callable[..., Any]) -> Any:
        """Return a plain function decorated; as an async one where the database is async."""
        return waiting(decorator(self.awaitable(function)))

    def awaitable(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as this kind of database wants it: plain, or to be awaited."""
        if not self.is_async:
            return function

        @functools.wraps(function)
        async def carried(*args: Any, **kwargs: Any) -> Any:
            return await greenlet_spawn(function, *args, **kwargs)

        return carried

    def run(self, function: Callable[..., Any], **settings: Any) -> Any:
        """Run a plain function; as an async one where the database is async."""
        return waiting(self.real.run)(self.awaitable(function), **settings)

    def gather(self, *functions: Callable[..., Any], **settings: Any) -> Any:
        """Gather plain functions; as async ones where the database is async."""
        return waiting(self.real.gather)(*map(self.awaitable, functions), **settings)

    def begin(self) -> Any:
        """Begin by hand, without a `with`."""
        begun = self.real.session.begin()
        return await_only(begun.start()) if self.is_async else begun


OPENING = {"once", "atomic", "savepoint", "scope", "begin", "begin_nested", "with_lock"}
WAITING = {"execute", "scalar", "scalars", "get_by_pk", "ensure_schema", "ping", "dispose"}
WAITING |= {"lock", "release"}


class BothSession:
    """A session whose coroutines are awaited on the spot."""

    def __init__(self, session: Any) -> None:
        self.real = session

    def __getattr__(self, name: str) -> Any:
        """Give a member of the real one."""
        member = getattr(self.real, name)
        if name in OPENING:
            return entering(member)
        return waiting(member) if callable(member) else member


def waiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, which awaits what it would return to be awaited."""

    def call_and_wait(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return await_only(result) if asyncio.iscoroutine(result) else result

    return call_and_wait


def entering(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, whose context manager needs no `async with`."""
    return lambda *args, **kwargs: both_context(function(*args, **kwargs))


@contextmanager
def both_context(context: Any) -> Iterator[Any]:
    """Enter an async context manager, or a plain one."""
    if not hasattr(context, "__aenter__"):
        with context as value:
            yield value
        return
    value = await_only(context.__aenter__())
    try:
        yield value
    except BaseException as error:
        if not await_only(context.__aexit__(type(error), error, error.__traceback__)):
            raise
    else:
        await_only(context.__aexit__(None, None, None))


@dataclass
class World:
    """A database, the place that a body runs in, and an independent look at the outcome."""

    driver: str
    place: str
    url: str
    look: Onlooker
    database: AsyncDatabase | Database
    statements: list[str] = field(default_factory=list)

    @property
    def is_async(self) -> bool:
        """Tell whether the body is carried in a greenlet."""
        return self.driver not in SYNC

    @property
    def is_sqlite(self) -> bool:
        """Tell whether the database is SQLite."""
        return self.url.startswith("sqlite")

    def sleep(self, seconds: float, long: str = "") -> str:
        """Return SQL that takes so long; `long` is what takes as long in SQLite."""
        return SLEEP.get(self.look.url.get_backend_name(), long).format(seconds)

    def run(self, body: Callable[[Both], Any]) -> Any:
        """Run the body in its place; raise what leaves that place."""
        return self.play(lambda db: self.inside(db, body))

    def inside(self, db: Both, body: Callable[[Both], Any]) -> Any:
        """Run the body in its place, as one of several things that a story does."""
        return getattr(self, f"in_{self.place}")(db, body)

    def play(self, story: Callable[[Both], Any]) -> Any:
        """Run a story that opens its own scopes."""
        db = Both(self.database)
        if self.is_async or self.place == "request":
            return asyncio.run(self._carried(story, db))
        try:
            return story(db)
        finally:
            self._end()

    async def _carried(self, story: Callable[[Both], Any], db: Both) -> Any:
        try:
            return await greenlet_spawn(story, db)
        finally:
            if self.is_async:
                await self._end()
            else:
                await asyncio.to_thread(self._end)

    def _end(self) -> Any:
        assert current.get() is None
        self.statements = list(self.statements)  # what closing sends does not count
        return self.database.dispose()

    def in_scope(self, db: Both, body: Callable[[Both], Any]) -> Any:
        """Run it in `db.scope()`."""
        with db.scope():
            return body(db)

    def in_block(self, db: Both, body: Callable[[Both], Any]) -> Any:
        """Run it in an atomic block of a scope."""
        with db.scope(), db.atomic():
            return body(db)

    def in_autocommit(self, db: Both, body: Callable[[Both], Any]) -> Any:
        """Run it where each statement is its own transaction; only if a test asks for that."""
        with db.scope(atomic=False):
            return body(db)

    def in_begin(self, db: Both, body: Callable[[Both], Any]) -> Any:
        """Run it in a transaction that is begun by hand; only if a test asks for that."""
        with db.scope(), db.session.begin():
            return body(db)

    def in_request(self, db: Both, body: Callable[[Both], Any], method: str = "POST") -> Any:
        """Run it as the endpoint of a request."""
        app, seen = FastAPI(), []

        if self.is_async:

            @app.api_route("/", methods=[method])
            async def endpoint() -> None:
                seen.append(await greenlet_spawn(body, db))
        else:

            @app.api_route("/", methods=[method])
            def endpoint() -> None:
                seen.append(body(db))

        self.database.install(app)
        await_only(call(app, method, "/"))
        return seen[0] if seen else None

    def at_once(self, *stories: Callable[[], Any]) -> list[Any]:
        """Run the stories at the same time, in tasks or in threads; return or raise what comes."""
        if self.is_async:
            return await_only(asyncio.gather(*map(greenlet_spawn, stories)))
        with ThreadPoolExecutor(len(stories)) as pool:
            return [future.result() for future in [pool.submit(story) for story in stories]]

    def barrier(self, parties: int) -> Callable[[], Any]:
        """Return what stories that run at once call to wait for each other."""
        if self.is_async:
            return waiting(asyncio.Barrier(parties).wait)
        return threading.Barrier(parties, timeout=30).wait

    def items(self) -> list[str]:
        """Return the names that are stored, as another client sees them."""
        return [name for (name,) in self.look.rows("SELECT name FROM item ORDER BY id")]

    def sent(self) -> list[str]:
        """Return the kinds of what was sent: BEGIN, INSERT, SAVEPOINT, ROLLBACK TO, COMMIT, …"""
        return [re.findall(r"ROLLBACK TO|\w+", statement)[0] for statement in self.statements]

    def check_clean(self) -> None:
        """Fail if anything was left behind."""
        assert self.database.stats()["pool_checked_out"] == 0
        if self.is_sqlite:
            assert until(self.look.write_lock_is_free)  # a thread may still be closing
        else:
            assert self.look.idle_in_transaction() == []


def make_world(driver: str, place: str, url: str) -> World:
    """Return a world on a database that is there, with empty tables."""
    database = Database(url) if driver in SYNC else AsyncDatabase(url)
    world = World(driver, place, url, LastingOnlooker(url), database)
    record_statements(world)
    return world


def plain_engine(database: Any) -> Any:
    """Return the plain engine, which for async is the one inside."""
    return getattr(database.engine, "sync_engine", database.engine)


def record_statements(world: World) -> None:
    """Write down what is sent, in the order of sending; a driver's BEGIN where it is decided."""
    record_engine(world, plain_engine(world.database))  # the one that only reads hears the same


def recorder(statements: list[str]) -> Callable[[str], None]:
    """Return what writes down the statements that SQLite tells of, without our questions."""

    def record(statement: str) -> None:
        if not statement.startswith(QUESTIONS):
            statements.append(statement)

    return record


def record_engine(world: World, engine: Any) -> None:
    """Write down what is sent by one engine."""
    if world.is_sqlite:  # it tells everything by itself, our questions about a statement too

        @event.listens_for(engine, "connect")
        def on_connect(connection: Any, record: Any) -> None:
            driver = getattr(connection, "driver_connection", connection)
            waiting(driver.set_trace_callback)(recorder(world.statements))

        return

    @event.listens_for(engine, "before_cursor_execute")
    def on_statement(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        world.statements.append(statement)

    def on_end(conn: Any, kind: str) -> None:
        if conn.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            world.statements.append(kind.upper())

    for kind in ("begin", "commit", "rollback"):
        event.listen(engine, kind, lambda conn, kind=kind: on_end(conn, kind))


def insert(db: Both, name: str) -> Item:
    """Store an item, at once."""
    item = Item(name=name)
    db.session.add(item)
    db.session.flush()
    return item
