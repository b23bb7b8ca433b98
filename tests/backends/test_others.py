"""Two databases that no backend is for, DuckDB and Firebird: the generic one is enough for them.

Both engines run in this process. Where one is not installed, its tests are skipped: `pip install
--group others` brings the packages, and Debian's `firebird3.0-server` the engine of Firebird.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import anyio.to_thread
import pytest
from fastapi import FastAPI, HTTPException
from sqlalchemy import Connection, Engine, String, create_engine
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool
from starlette.responses import Response

from dbscope import (
    AsyncDatabase,
    ConfigurationError,
    Database,
    DBSessionMiddleware,
    MigrationError,
    UnexpectedRollback,
)
from dbscope.backends import registry
from dbscope.backends.base import Backend
from dbscope.backends.features import Features
from dbscope.crud import CRUD
from tests.asgi import Answer, ask

HAS_SAVEPOINTS = {"duckdb": False, "firebird": True}


class Base(DeclarativeBase):
    """The tables."""


class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(100))


THING: Any = Thing.__table__


def needed(*modules: str) -> None:
    """Skip the test where a package is not installed, or what it is built on."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # firebird-driver says in its own way that there is no library
            if os.environ.get("CI"):
                raise
            pytest.skip(f"{module} cannot be imported: {error}")


def duckdb(folder: Path) -> str:
    """Return the URL of a database that is made when somebody connects."""
    needed("duckdb", "duckdb_engine")
    return f"duckdb:///{folder}/things.duckdb"


def firebird(folder: Path) -> str:
    """Return the URL of a new database; the engine runs in this process, which asks no password."""
    needed("firebird.driver", "sqlalchemy_firebird")
    driver = importlib.import_module("firebird.driver")
    file = folder / "things.fdb"
    try:
        driver.create_database(str(file), user="SYSDBA", charset="UTF8").close()
    except Exception as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"Firebird's engine does not start: {error}")
    return f"firebird+firebird://SYSDBA@/{file}?charset=UTF8"


ENGINES: dict[str, Callable[[Path], str]] = {"duckdb": duckdb, "firebird": firebird}


@pytest.fixture(params=ENGINES)
def kind(request: pytest.FixtureRequest) -> str:
    """Return which of them."""
    return str(request.param)


@pytest.fixture
def db(kind: str, tmp_path: Path) -> Iterator[Database]:
    """Return a database with an empty table."""
    db = Database(ENGINES[kind](tmp_path))
    db.ensure_schema(Base.metadata)
    yield db
    db.dispose()


@pytest.fixture
def names(db: Database) -> Iterator[Callable[[], list[str]]]:
    """Return what tells what is stored, by a connection that we have nothing to do with."""
    engine: Engine = create_engine(db.url, poolclass=NullPool)

    def look() -> list[str]:
        with engine.connect() as connection:
            return list(connection.scalars(THING.select().with_only_columns(THING.c.name)))

    yield look
    engine.dispose()


def add(db: Database, number: int, name: str) -> None:
    """Store a thing."""
    db.session.add(Thing(id=number, name=name))
    db.session.flush()


# -- requests --------------------------------------------------------------------------------------


def respond(status: int) -> Callable[[], Response]:
    """Return an endpoint's end: a response."""
    return lambda: Response(status_code=status)


def fail(error: Exception) -> Callable[[], Response]:
    """Return an endpoint's end: an exception."""

    def end() -> Response:
        raise error

    return end


ENDS: dict[str, tuple[Callable[[], Response], int, list[str]]] = {
    "200": (respond(200), 200, ["a"]),
    "303": (respond(303), 303, ["a"]),
    "409 raised": (fail(HTTPException(409)), 409, []),
    "422 returned": (respond(422), 422, []),
    "500 returned": (respond(500), 500, []),
    "error": (fail(ValueError("it failed")), 500, []),
}


@pytest.mark.anyio
@pytest.mark.parametrize("end", ENDS)
async def test_a_request_is_committed_before_it_is_answered_or_rolled_back(
    db: Database, names: Callable[[], list[str]], end: str
) -> None:
    """What another connection finds while the response leaves, and which hooks were run."""
    leave, status, stored = ENDS[end]
    hooks: list[str] = []
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware)

    @app.post("/")
    def endpoint() -> Response:
        add(db, 1, "a")
        db.on_commit(lambda: hooks.append("committed"))
        db.on_rollback(lambda: hooks.append("rolled back"))
        return leave()

    seen: list[list[str]] = []

    async def look(message: Any) -> None:
        if message["type"] == "http.response.start":
            seen.append(await anyio.to_thread.run_sync(names))

    answer: Answer = await ask(app, "POST", "/", on_send=look)
    assert (answer.status, seen) == (status, [stored])
    assert hooks == (["committed"] if stored else ["rolled back"])
    assert db.stats()["pool_checked_out"] == 0


@pytest.mark.anyio
async def test_a_swallowed_failure_is_told(db: Database, names: Callable[[], list[str]]) -> None:
    """A statement has failed, so nothing is kept, though the endpoint was content."""
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware)

    @app.post("/")
    def endpoint() -> None:
        add(db, 1, "a")
        with pytest.raises(DatabaseError):
            db.execute(THING.insert().values(id=1, name="b"))

    answer = await ask(app, "POST", "/")
    assert (answer.status, type(answer.error)) == (500, UnexpectedRollback)
    assert await anyio.to_thread.run_sync(names) == []


# -- blocks ----------------------------------------------------------------------------------------


def test_blocks_are_transactions_outside_of_one(
    db: Database, names: Callable[[], list[str]]
) -> None:
    """In a scope that is none, each is kept or not for itself."""
    with db.scope(atomic=False):
        with db.atomic():
            add(db, 1, "a")
        with db.atomic() as block:
            add(db, 2, "b")
            block.set_rollback()
        with pytest.raises(KeyError), db.atomic():
            add(db, 3, "c")
            raise KeyError
        assert names() == ["a"]


def test_a_block_inside_a_transaction_is_a_savepoint_or_is_refused(
    db: Database, kind: str, names: Callable[[], list[str]]
) -> None:
    """DuckDB has none: that is said in a sentence, and nothing is kept."""

    def story() -> None:
        with db.scope():
            add(db, 1, "a")
            with db.atomic() as block:
                add(db, 2, "b")
                block.set_rollback()
            with db.atomic():
                add(db, 3, "c")

    if HAS_SAVEPOINTS[kind]:
        story()
        assert names() == ["a", "c"]
    else:
        with pytest.raises(ConfigurationError, match=r"asked for a savepoint, and .* has none"):
            story()
        assert names() == []


def test_a_block_that_joins_needs_no_savepoint(
    db: Database, names: Callable[[], list[str]]
) -> None:
    """It is a part of the transaction around it."""
    with db.scope():
        add(db, 1, "a")
        with db.atomic(savepoint=False):
            add(db, 2, "b")
    assert names() == ["a", "b"]
    with pytest.raises(KeyError), db.scope():
        with db.atomic(savepoint=False):
            add(db, 3, "c")
        raise KeyError
    assert names() == ["a", "b"]


def test_a_hook_is_run_once_its_work_is_seen(db: Database, names: Callable[[], list[str]]) -> None:
    """After COMMIT; one that registers before it can still write."""
    seen: list[list[str]] = []
    with db.scope():
        add(db, 1, "a")
        db.before_commit(lambda: add(db, 2, "b"))
        db.on_commit(lambda: seen.append(names()))
        assert names() == []
    assert seen == [["a", "b"]]


def test_it_answers(db: Database) -> None:
    """Firebird wants a FROM in each SELECT."""
    db.ping()
    assert db.stats()["pool_checked_out"] == 0


# -- what it cannot have ---------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, Callable[[Any], object]]] = {
    "a read-only scope": ("readonly", lambda db: db.scope(readonly=True)),
    "a read-only block": ("readonly", lambda db: db.atomic(readonly=True)),
    "a read-only request": ("readonly", lambda db: db.readonly),
    "a time limit": ("timeout", lambda db: db.atomic(timeout=1)),
    "a lock": ("advisory_lock", lambda db: db.advisory_lock("a").__enter__()),
    "verify_commit": ("verify_commit", lambda db: Database(db.url, verify_commit=True)),
    "settings": ("session_settings", lambda db: Database(db.url, session_settings=dict)),
    "reset": ("reset_session", lambda db: Database(db.url, reset_session=True)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_be_ignored_is_refused_where_it_is_asked(db: Database, what: str) -> None:
    """By one sentence that names the argument and the database."""
    argument, ask_for = REFUSED[what]
    told = f"`{argument}` was asked of a database that is called '{db.backend.features.name}'"
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        ask_for(db)


def test_an_isolation_level_that_the_dialect_cannot_set_is_refused(
    db: Database, names: Callable[[], list[str]]
) -> None:
    """Both dialects say that they can, and then neither driver has what they call for it."""
    with (
        pytest.raises(ConfigurationError, match=r"`isolation` .* cannot set it"),
        db.scope(atomic=False),
        db.atomic(isolation="SERIALIZABLE"),
    ):
        add(db, 1, "a")
    assert names() == []
    with db.scope():
        add(db, 1, "a")
    assert names() == ["a"]


def test_it_is_not_for_async(db: Database) -> None:
    """Neither has a driver for it."""
    with pytest.raises(ConfigurationError):
        AsyncDatabase(db.url).engine  # noqa: B018


class Things(CRUD[Thing, dict[str, Any], dict[str, Any]]):
    """The operations on things."""


def test_rows_are_stored_but_not_by_upsert(db: Database, names: Callable[[], list[str]]) -> None:
    """For which no statement is known."""
    things = Things(db)
    with db.scope():
        things.create({"id": 1, "name": "a"})
        assert [each.name for each in things.list(order_by=Thing.name).items] == ["a"]
        with pytest.raises(ConfigurationError, match="There is no upsert"):
            things.upsert({"id": 1, "name": "b"}, on=("id",))
    assert names() == ["a"]


def test_migrations_want_to_be_alone(db: Database) -> None:
    """No lock is known that ends with who holds it."""
    lock = db.backend.migrating().lock
    with pytest.raises(MigrationError, match="No lock is known"), lock(db.engine, 1, alone=False):
        pass
    with lock(db.engine, 1, alone=True) as connection:
        assert connection.execute(THING.select()).all() == []


def test_the_doctor_calls_it_as_sqlalchemy_does(db: Database) -> None:
    """Nothing is looked at that nothing is known about."""
    doctor = db.backend.doctor()
    assert doctor.product(db.engine.dialect) == db.engine.dialect.name
    assert (doctor.before, doctor.connected, doctor.oldest) == ((), (), ())


# -- a backend of one's own ------------------------------------------------------------------------


class Toy(Backend):
    """A backend that knows one thing more than nothing."""

    features = Features(name="duckdb", family="toy", session_settings=True)
    told: ClassVar[list[str]] = []

    def set_session(self, connection: Connection, values: Mapping[str, str]) -> None:
        """Write down what is set."""
        self.told.extend(f"{name}={value}" for name, value in values.items())


@pytest.fixture
def toy_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return a URL whose backend is one line of the registry, and a module in its place."""
    monkeypatch.setitem(registry.BACKENDS, "duckdb", ("toy", "Toy"))
    monkeypatch.setitem(sys.modules, "dbscope.backends.toy.backend", sys.modules[__name__])
    registry.class_of.cache_clear()
    yield duckdb(tmp_path)
    registry.class_of.cache_clear()
    Toy.told.clear()


def test_a_backend_is_one_class_in_the_registry(toy_url: str) -> None:
    """Nothing else has to know of it: what it can do is done, and all else is refused."""
    db = Database(toy_url, session_settings=lambda: {"app.tenant": "7"})
    assert isinstance(db.backend, Toy)
    db.ensure_schema(Base.metadata)
    with db.scope():
        add(db, 1, "a")
    assert Toy.told == ["app.tenant=7"]
    with pytest.raises(ConfigurationError, match=r"`timeout` was asked of a .* 'duckdb'"):
        db.atomic(timeout=1)
    with pytest.raises(ConfigurationError, match="use postgresql, duckdb"):
        Database("sqlite:///a.db", session_settings=dict)
    db.dispose()
