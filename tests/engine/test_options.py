"""Options of SQLAlchemy's: each is honoured, wrapped or refused, and none switches us off."""

import ast
import inspect
import sqlite3
import textwrap
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy import pool as pools
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Query, Session, sessionmaker

from dbscope import AsyncDatabase, ConfigurationError, Database
from dbscope.engine import options
from tests.worlds import DRIVERS, SYNC, Both, Item, World, insert, is_sqlite

KINDS = pytest.mark.parametrize("kind", [AsyncDatabase, Database])

# What is handed on as it is: each was looked at.
PASSED_ON_TO_SESSIONS = frozenset(
    [
        "autoflush",
        "enable_baked_queries",
        "expire_on_commit",
        "info",
        "query_cls",
        "sync_session_class",
    ]
)
PASSED_ON_TO_ENGINES = frozenset(
    [
        "client_encoding",
        "compiler_linting",
        "connect_args",
        "echo",
        "echo_pool",
        "empty_in_strategy",
        "enable_from_linting",
        "hide_parameters",
        "implicit_returning",
        "insertmanyvalues_page_size",
        "is_mariadb",
        "json_deserializer",
        "json_serializer",
        "label_length",
        "logging_name",
        "max_identifier_length",
        "max_overflow",
        "native_datetime",
        "native_inet_types",
        "paramstyle",
        "plugins",
        "pool_events",
        "pool_logging_name",
        "pool_pre_ping",
        "pool_recycle",
        "pool_size",
        "pool_timeout",
        "pool_use_lifo",
        "poolclass",
        "query_cache_size",
        "skip_autocommit_rollback",
        "supports_native_boolean",
        "use_insertmanyvalues",
        "use_native_hstore",
    ]
)
POOLS = [
    pools.QueuePool,
    pools.AsyncAdaptedQueuePool,
    pools.NullPool,
    pools.StaticPool,
    pools.AssertionPool,
    pools.SingletonThreadPool,
]


def taken(function: Any) -> set[str]:
    """Return the names that a function of SQLAlchemy's takes out of its keyword arguments."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) in TAKES:
            first = call.args[0]
            names |= {first.value} if isinstance(first, ast.Constant) else set()
    return names


TAKES = {"pop_kwarg", "kwargs.pop", "kw.pop", "kw.get"}


def named(*classes: type[Any]) -> set[str]:
    """Return the names that the classes take when they are made."""
    return {name for each in classes for name in options.keywords(each)}


def test_each_option_of_a_session_was_looked_at() -> None:
    """One that a later SQLAlchemy brings is not known to be harmless."""
    there = named(Session, sessionmaker, AsyncSession, async_sessionmaker)
    assert there - PASSED_ON_TO_SESSIONS - set(options.SESSION) == set()


def test_each_option_of_an_engine_was_looked_at() -> None:
    """Of the function, of the dialects, of the pools and of the engine itself."""
    dialects = [make_url(f"{name}://").get_dialect() for name in DRIVERS.values()]
    dialects += [cls.get_async_dialect_cls(make_url("x://")) for cls in dialects]
    of_pools = {options.TRANSLATED.get(name, name) for name in named(*POOLS)}
    there = named(Engine, *dialects) | of_pools
    there |= taken(inspect.unwrap(create_engine)) | taken(create_async_engine)
    assert there >= {"poolclass", "async_creator"}
    assert there - PASSED_ON_TO_ENGINES - set(options.ENGINE) - {"pool"} == set()


SESSIONS: list[dict[str, Any]] = [
    {"bind": None},
    {"binds": {}},
    {"class_": Session},
    {"twophase": True},
    {"autobegin": False},
    {"autocommit": True},
    {"future": False},
    {"close_resets_only": True},
    {"join_transaction_mode": "create_savepoint"},
    {"execution_options": {"isolation_level": "AUTOCOMMIT"}},
    {"expire_on_comit": False},
    {"sync_session_class": dict},
]
ENGINES: list[dict[str, Any]] = [
    *({"isolation_level": level} for level in ["AUTOCOMMIT", "autocommit", "Auto_Commit", "NONE"]),
    {"execution_options": {"isolation_level": "autocommit"}},
    {"connect_args": {"autocommit": True}},
    {"connect_args": {"init_command": "SET SESSION autocommit = 1"}},
    {"connect_args": {"async_creator_fn": print}},
    {"connect_args": {"factory": print}},
    {"pool_reset_on_return": "commit"},
    {"creator": print},
    {"async_creator": print},
    {"module": object()},
    {"dbapi": object()},
    {"strategy": "mock"},
    {"server_side_cursors": True},
    {"future": False},
    {"_initialize": False},
    {"_is_async": True},
    {"pool": object()},
    {"poolclass": pools.SingletonThreadPool},
    {"poolclass": dict},
    {"poolclass": pools.NullPool, "pool_size": 3},
    {"poolclass": pools.StaticPool, "max_overflow": 3},
    {"pool_sise": 3},
]


@KINDS
@pytest.mark.parametrize("given", SESSIONS, ids=lambda given: next(iter(given)))
def test_an_option_of_a_session_that_cannot_be_honoured_is_refused(
    kind: Any, given: dict[str, Any]
) -> None:
    """When the database is made, and not when the first request comes."""
    with pytest.raises(ConfigurationError, match=next(iter(given))):
        kind("postgresql://nowhere.invalid/x", session_options=given)


@KINDS
@pytest.mark.parametrize("url", ["sqlite:///a.db", "postgresql://h/x", "mysql://h/x"])
@pytest.mark.parametrize(
    "given", ENGINES, ids=[f"{number} {next(iter(each))}" for number, each in enumerate(ENGINES)]
)
def test_an_option_of_an_engine_that_cannot_be_honoured_is_refused(
    kind: Any, url: str, given: dict[str, Any]
) -> None:
    """It would be passed over, or take the transaction out of our hands."""
    with pytest.raises(ConfigurationError, match=r"engine_options|connect_args"):
        kind(url, engine_options=given)


@KINDS
@pytest.mark.parametrize("url", ["sqlite:///a.db", "postgresql://h/x", "mysql://h/x"])
def test_a_pool_of_the_other_kind_is_told_which_one_serves(kind: Any, url: str) -> None:
    """By its own name, and not by that of ours which stands in for it."""
    classes = [pools.QueuePool, pools.AsyncAdaptedQueuePool]
    right, wrong = classes if kind is Database else reversed(classes)
    with pytest.raises(
        ConfigurationError, match=f"={wrong.__name__} cannot serve .* use {right.__name__}"
    ):
        _ = kind(url, engine_options={"poolclass": wrong}).engine


@KINDS
@pytest.mark.parametrize("query", ["autocommit=true", "init_command=set+autocommit%3D1"])
def test_a_url_that_asks_for_autocommit_is_refused(kind: Any, query: str) -> None:
    """SQLAlchemy gives what it says to the driver."""
    with pytest.raises(ConfigurationError, match="atomic_requests=False"):
        kind(f"mysql://host/name?{query}")


@pytest.mark.parametrize("how", ["isolation_level", "execution_options"])
def test_a_ready_engine_in_autocommit_is_refused(how: str) -> None:
    """Its connections would keep the work of a scope that fails."""
    level = {"isolation_level": "AUTOCOMMIT"}
    engine = create_engine("sqlite:///a.db", **(level if how == "isolation_level" else {}))
    with pytest.raises(ConfigurationError, match="atomic_requests=False"):
        Database(engine=engine if how == "isolation_level" else engine.execution_options(**level))


def test_options_for_an_engine_that_is_there_are_refused() -> None:
    """They would be passed over in silence."""
    with pytest.raises(ConfigurationError, match="engine_options"):
        Database(engine=create_engine("sqlite:///a.db"), engine_options={"echo": True})


class Marked(Session):
    """A class of an application's own."""

    def __init__(self, *args: Any, tenant: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.info["tenant"] = tenant


class MarkedQuery(Query[Any]):
    """A class of an application's own, too."""


@pytest.mark.worlds(drivers=lambda driver: driver not in SYNC)
def test_the_class_of_the_session_inside_is_wrapped(world: World) -> None:
    """`sync_session_class` of an async session: what was added is stored, and nothing leaks."""
    given = {"sync_session_class": Marked, "tenant": "b", "query_cls": MarkedQuery}
    world.database = AsyncDatabase(world.url, session_options=given)

    def body(db: Both) -> None:
        inner = db.session.real.sync_session
        assert isinstance(inner, Marked)
        assert inner.info == {"tenant": "b"}
        assert isinstance(inner.query(Item), MarkedQuery)
        db.session.add(Item(name="a"))

    world.run(body)
    assert world.items() == ["a"]
    with world.database.sync.scope():
        assert isinstance(world.database.sync.session, Marked)


@pytest.mark.worlds(places=["scope"])
def test_what_is_passed_on_is_honoured(world: World) -> None:
    """Of a session and of an engine."""
    world.database = type(world.database)(
        world.url,
        session_options={"autoflush": False, "expire_on_commit": True, "info": {"a": 1}},
        engine_options={"hide_parameters": True, "pool_size": 2, "max_overflow": 1},
    )

    def body(db: Both) -> None:
        item = insert(db, "a")
        assert db.session.info["a"] == 1
        assert not db.session.autoflush
        db.session.commit()
        assert "name" not in vars(item)
        engine = getattr(db.engine, "sync_engine", db.engine)
        assert (engine.hide_parameters, engine.pool.size()) == (True, 2)

    world.run(body)
    assert world.items() == ["a"]


class OwnConnection(sqlite3.Connection):
    """A class of an application's own."""

    def commit(self) -> None:
        """Commit, and say so."""
        super().commit()


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
def test_a_class_of_connections_of_sqlite_is_kept_below_ours(world: World) -> None:
    """It has what the application wants of it, and what we need to know of it."""
    options = {"connect_args": {"factory": OwnConnection}}
    world.database = type(world.database)(world.url, engine_options=options)

    def body(db: Both) -> None:
        insert(db, "a")
        connection = db.session.connection()
        connection = getattr(connection, "sync_connection", connection)
        driver = connection.connection.driver_connection
        driver = getattr(driver, "_conn", getattr(driver, "_connection", driver))
        assert isinstance(driver, OwnConnection)
        assert driver.life

    world.run(body)
    assert world.items() == ["a"]


def test_the_companion_has_what_suits_its_kind() -> None:
    """A pool for async code is none for plain code."""
    db = AsyncDatabase(
        "postgresql://host/name", engine_options={"poolclass": pools.AsyncAdaptedQueuePool}
    )
    assert isinstance(db.sync.engine.pool, pools.QueuePool)
    assert not isinstance(db.sync.engine.pool, pools.AsyncAdaptedQueuePool)
