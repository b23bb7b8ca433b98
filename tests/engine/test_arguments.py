"""What cannot be meant is refused where it is written, and the message says what to write."""

import asyncio
import inspect
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from pydantic import PostgresDsn, SecretStr, TypeAdapter
from sqlalchemy import ForeignKey, create_engine, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.orm.exc import DetachedInstanceError

from dbscope import AsyncDatabase, ConfigurationError, Database, ScopeMissing
from dbscope.unit.block import Block, Kind
from tests.worlds import Base, Both, Item, World, insert

URL = "sqlite:///app.db"
POSTGRES = "postgresql://127.0.0.1/shop"

both = pytest.mark.parametrize("kind", [AsyncDatabase, Database])


async def coroutine() -> None: ...


async def generator() -> AsyncIterator[int]:
    yield 1


def plain_generator() -> Iterator[int]:
    yield 1


def needs(user: str) -> None: ...


def needs_by_name(*, user: str) -> None: ...


def refused(how: Callable[[], Any], error: type[Exception] = ConfigurationError) -> str:
    """Return what is said, on one line, without what is said of all errors of the class."""

    def call() -> None:
        result = how()
        if inspect.iscoroutine(result):
            asyncio.run(result)

    with pytest.raises(error) as raised:
        call()
    return " ".join(str(raised.value).split())


# -- of a database ---------------------------------------------------------------------------------

SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"atomic_requests": "yes"}, "atomic_requests must be True, False or a plain function"),
    ({"atomic_requests": coroutine}, "atomic_requests must be True, False or a plain function"),
    ({"engine_options": [1]}, "engine_options must be a mapping"),
    ({"session_options": "x"}, "session_options must be a mapping"),
    ({"session_class": "x"}, "session_class must be a class"),
    ({"manual_commit": "never"}, "manual_commit must be 'allow' or 'forbid'"),
    ({"verify_commit": "yes"}, "verify_commit must be True or False"),
    ({"reset_session": 1}, "reset_session must be True or False"),
    ({"allow_async_unsafe": None}, "allow_async_unsafe must be True or False"),
    ({"session_settings": {"a": 1}}, "session_settings must be a plain function"),
    ({"session_settings": coroutine}, "session_settings must be a plain function"),
    ({"idle_limit": "x"}, "idle_limit must be a positive number of seconds, or None"),
    (
        {"idle_limit": timedelta(seconds=3)},
        "idle_limit must be a positive number of seconds, or None, not datetime.timedelta(sec",
    ),
    (
        {"client_wait": Decimal("2.5")},
        "client_wait must be a positive number of seconds, or None, not Decimal('2.5'). Write 2.5.",
    ),
    ({"idle_limit": math.nan}, "idle_limit must be a positive number of seconds, or None"),
    ({"retry_codes": "1205"}, "retry_codes must be a list of texts, as in ['1205']"),
    ({"retry_codes": [1205]}, "retry_codes must be a list of texts, as in ['1205']"),
    ({"name": 5}, "name must be a text"),
]
POOLS = {"pool_size": "5", "max_overflow": "1", "pool_timeout": "5", "pool_recycle": None}


@both
@pytest.mark.parametrize(("given", "told"), SETTINGS, ids=lambda each: str(each)[:30])
def test_a_setting_that_cannot_be_meant_is_refused(kind: Any, given: Any, told: str) -> None:
    """When the database is made, and with what was given."""
    (value,) = given.values()
    message = refused(lambda: kind(URL, **given))
    assert message.startswith(told)
    assert f"not {value!r}." in message


@both
@pytest.mark.parametrize("name", POOLS)
def test_the_numbers_of_a_pool_are_numbers(kind: Any, name: str) -> None:
    """The environment has text."""
    told = refused(lambda: kind(URL, engine_options={name: POOLS[name]}))
    assert f"engine_options: {name}={POOLS[name]!r} cannot be honoured: it must be int" in told


VALUES: list[dict[str, Any]] = [
    {"connect_args": 5},
    {"connect_args": {"defer_connect": True}},
    {"paramstyle": "x"},
    {"query_cache_size": "100"},
    {"label_length": "x"},
    {"execution_options": 5},
    {"execution_options": {"schema_translate_map": 5}},
    {"execution_options": {"compiled_cache": 5}},
    {"execution_options": {"yield_per": "x"}},
    {"execution_options": {"yield_per": 5}},
    {"execution_options": {"stream_results": True}},
]


@both
@pytest.mark.parametrize("options", VALUES, ids=str)
def test_an_option_of_the_engine_is_of_the_right_kind(kind: Any, options: dict[str, Any]) -> None:
    """Else the first statement would fail, by an error from somewhere inside."""
    ((name, value),) = options.items()
    told = refused(lambda: kind(URL, engine_options=options))
    assert name in told
    assert "cannot be honoured" in told
    assert not isinstance(value, dict) or next(iter(value)) in told


STRANGE: list[tuple[dict[str, Any], str]] = [
    ({"pool_size": 5}, "one of the engine_options: {}(..., engine_options={{'pool_size': 5}})"),
    ({"echo": True}, "one of the engine_options: {}(..., engine_options={{'echo': True}})"),
    ({"connect_args": {}}, "one of the engine_options: {}(..., engine_options="),
    ({"expire_on_commit": True}, "one of the session_options: {}(..., session_options="),
    ({"atomic_request": True}, "did you mean 'atomic_requests'?"),
    ({"colour": 1}, "it has url, name, atomic_requests,"),
]


@both
@pytest.mark.parametrize(("given", "told"), STRANGE, ids=str)
def test_an_argument_that_there_is_not_is_told_where_it_belongs(
    kind: Any, given: Any, told: str
) -> None:
    """By the name of the class that was called."""
    message = refused(lambda: kind(URL, **given), TypeError)
    assert message.startswith(f"{kind.__name__} has no argument {next(iter(given))!r}")
    assert told.format(kind.__name__) in message


ADDRESSES: list[tuple[Any, str]] = [
    ("sqlite://app.db", "sqlite:///app.db"),
    ("sqlite+pysqlite://me@/app.db", "sqlite:///app.db"),
    (Path("app.db"), 'f"sqlite:///{path}"'),
    (create_engine("sqlite://"), "`engine=...`"),
    (create_async_engine("sqlite+aiosqlite://"), "`engine=...`"),
    (SecretStr("postgresql://me:hidden@host/shop"), ".get_secret_value()"),
    (b"postgresql://me:hidden@host/shop", "must be a URL"),
    (5, "must be a URL"),
    (None, "neither was given"),
]


@both
@pytest.mark.parametrize(("address", "told"), ADDRESSES, ids=lambda each: str(each)[:20])
def test_what_is_no_url_is_told_what_to_write(kind: Any, address: Any, told: str) -> None:
    """And a secret is not shown."""
    message = refused(lambda: kind(address))
    assert told in message
    assert "hidden" not in message


@both
def test_a_url_of_pydantic_is_one(kind: Any) -> None:
    """Settings have such."""
    dsn = TypeAdapter(PostgresDsn).validate_python("postgresql://me:secret@host:5433/shop")
    url = kind(dsn).url
    assert (url.host, url.port, url.password) == ("host", 5433, "secret")


@both
def test_an_engine_is_one_of_the_right_kind(kind: Any) -> None:
    """And nothing else."""
    name = "an AsyncEngine or AsyncConnection" if kind.is_async else "an Engine or Connection"
    other = create_engine("sqlite://") if kind.is_async else create_async_engine("sqlite+inline://")
    for wrong in (5, other):
        told = refused(lambda: kind(engine=wrong))  # noqa: B023
        assert f"engine of {kind.__name__} must be {name}, or None, not {wrong!r}" in told


@both
def test_a_session_class_of_the_other_kind_is_told_whose_it_is(kind: Any) -> None:
    """The class that would take it."""
    base, other = (Session, "Database") if kind.is_async else (AsyncSession, "AsyncDatabase")
    assert f"which is one for {other}." in refused(lambda: kind(URL, session_class=base))


# -- of its members --------------------------------------------------------------------------------

CALLS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "timeout": (
        lambda db: db.atomic(timeout="5"),
        ConfigurationError,
        "timeout must be a positive",
    ),
    "inf": (lambda db: db.atomic(timeout=math.inf), ConfigurationError, "a positive number"),
    "timedelta": (lambda db: db.atomic(timeout=timedelta(1)), ConfigurationError, "Write 86400.0."),
    "nan": (lambda db: db.atomic(timeout=math.nan), ConfigurationError, "a positive number"),
    "isolation": (lambda db: db.atomic(isolation=5), ConfigurationError, "isolation must be a"),
    "readonly": (lambda db: db.atomic(readonly="x"), ConfigurationError, "readonly must be True"),
    "durable": (lambda db: db.atomic(durable="x"), ConfigurationError, "durable must be True"),
    "savepoint": (lambda db: db.atomic(savepoint=2), ConfigurationError, "savepoint must be True"),
    "propagation": (lambda db: db.atomic(propagation=5), ConfigurationError, "propagation must be"),
    "retry": (lambda db: db.atomic(retry="2"), ValueError, "retry must be 0 or more, not '2'"),
    "half": (lambda db: db.atomic(retry=0.5), ValueError, "retry must be 0 or more, not 0.5"),
    "scope": (lambda db: db.scope(atomic="no"), ConfigurationError, "atomic must be True or"),
    "scope to read": (lambda db: db.scope(readonly=1), ConfigurationError, "readonly must be True"),
    "retries": (lambda db: db.retry_requests("2"), ValueError, "retry_requests must be 0 or more"),
    "attempts": (lambda db: db.run(dict, attempts="2"), ValueError, "attempts must be 1 or more"),
    "run": (lambda db: db.run(coroutine()), TypeError, "Give the function, without calling it."),
    "run None": (lambda db: db.run(None), TypeError, "must be callable"),
    "run more": (lambda db: db.run(needs), TypeError, "functools.partial(needs, ...)"),
    "tables": (lambda db: db.ensure_schema(Base), TypeError, "Give its `.metadata`."),
    "router": (lambda db: db.install(APIRouter()), TypeError, "application that includes the"),
    "app": (lambda db: db.install(FastAPI(), retry="2"), ValueError, "retry must be 0 or more"),
}


@both
@pytest.mark.parametrize("call", CALLS)
def test_an_argument_that_cannot_be_meant_is_refused(kind: Any, call: str, tmp_path: Any) -> None:
    """By a sentence of ours, not by an error from somewhere inside."""
    how, error, told = CALLS[call]
    db = kind(f"sqlite:///{tmp_path}/a.db")
    assert told in refused(lambda: how(db), error)
    asyncio.run(close(db))


async def close(db: Any) -> None:
    async with db.lifespan():
        pass


@both
@pytest.mark.parametrize(
    ("key", "timeout"),
    [(5, None), ("a", math.nan), ("a", -1), ("a", "1"), ("a", timedelta(1)), ("a", Decimal(1))],
)
def test_an_advisory_lock_has_a_name_and_a_time(kind: Any, key: Any, timeout: Any) -> None:
    """A number would be another one's name. It is told where the lock is made."""
    db = kind(POSTGRES)
    error = TypeError if key == 5 else ConfigurationError
    assert " must be a " in refused(lambda: db.advisory_lock(key, timeout=timeout), error)


HOOKS = [
    (needs, "functools.partial(needs, ...)"),
    (needs_by_name, "is called without arguments"),
    (generator, "must not be a generator"),
    (plain_generator, "must not be a generator"),
    (5, "must be callable"),
    ([].append, "needs some (missing a required argument"),
    (len, "needs some (missing a required argument"),
    (Block, "needs some (missing a required argument"),
]


@both
@pytest.mark.parametrize(("hook", "told"), HOOKS)
@pytest.mark.parametrize("register", ["on_commit", "on_rollback", "before_commit"])
def test_a_hook_that_cannot_be_called_is_refused(
    kind: Any, hook: Any, told: str, register: str
) -> None:
    """When it is registered: later the work is stored, and nobody can say no."""

    async def in_scope() -> None:
        db = AsyncDatabase("sqlite://")
        async with db.scope():
            getattr(db, register)(hook)

    def in_plain_scope() -> None:
        db = Database("sqlite://")
        with db.scope():
            getattr(db, register)(hook)

    assert told in refused(in_scope if kind.is_async else in_plain_scope, TypeError)


def test_a_hook_with_defaults_or_a_bound_one_is_fine() -> None:
    """It can be called without arguments."""
    db, called = Database("sqlite://"), list[int]()

    class Sender:
        def send(self, times: int = 1, *, loudly: bool = False) -> None:
            called.append(times)

    with db.scope():
        db.on_commit(Sender().send)
        db.on_commit(lambda number=2: called.append(number))
        db.on_commit(called.clear)
        db.on_commit(lambda *rest, **more: called.append(3))
    assert called == [3]


@pytest.mark.worlds(drivers=lambda each: each.startswith("psycopg"), places=["scope"])
def test_session_settings_return_a_mapping(world: World) -> None:
    """What else they return is shown before anything is sent."""
    world.database = type(world.database)(world.url, session_settings=lambda: ["tenant"])
    with pytest.raises(ConfigurationError, match="What session_settings returns must be"):
        world.run(lambda db: db.execute(text("SELECT 1")))


# -- ways to enter ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scope", "atomic", "savepoint"])
def test_a_block_is_entered_in_the_way_of_its_database(name: str) -> None:
    """And it is called first; `hasattr` tells the truth all the same."""
    async_, plain = AsyncDatabase("sqlite://"), Database("sqlite://")

    def by_with(opened: Any) -> None:
        with opened:
            pass

    async def by_async_with(opened: Any) -> None:
        async with opened:
            pass

    for db, wrong, right in ((async_, by_with, "async with"), (plain, by_async_with, "by `with`")):
        opened = getattr(db, name)()
        assert right in refused(lambda: wrong(opened), TypeError)  # noqa: B023
        assert hasattr(opened, "__aenter__") is db.is_async
        assert hasattr(opened, "__enter__") is not db.is_async
        for way in (by_with, by_async_with):
            assert "the parentheses" in refused(lambda: way(getattr(db, name)), TypeError)  # noqa: B023


def test_a_method_that_opens_is_one_like_others() -> None:
    """A subclass may go on from it."""

    class Mine(Database):
        def atomic(self, *args: Any, **kwargs: Any) -> Any:
            return super().atomic(*args, **kwargs)

    assert isinstance(Mine("sqlite://").atomic(), type(Database("sqlite://").atomic()))
    assert Database.atomic(Database("sqlite://"), dict)() == {}


@both
@pytest.mark.parametrize("name", ["add", "commit", "begin", "exec"])
def test_what_is_no_session_says_where_it_is(kind: Any, name: str) -> None:
    """A database, a scope and a block; other names are unknown, and nothing is said of them."""
    db = kind("sqlite://")
    block = Block(Kind.ROOT, "here")
    for each in (db, db.scope(), block):
        assert f"`db.session.{name}`" in refused(lambda: getattr(each, name), AttributeError)  # noqa: B023
        assert not hasattr(each, "no_such_name")
        told = refused(lambda: each.no_such_name, AttributeError)  # noqa: B023
        assert told == f"'{type(each).__name__}' object has no attribute 'no_such_name'"


def test_depends_takes_the_function_and_not_what_it_returns() -> None:
    """`Depends(db.session)` would be one session for all requests."""
    db = AsyncDatabase("sqlite://")
    with pytest.raises(ScopeMissing, match=re.escape("`Depends(db.get_session)`")):
        Depends(db.session)


# -- errors of others, with a note -----------------------------------------------------------------


def test_a_missing_table_is_told_how_it_is_made(world: World) -> None:
    """By a note: the error is the one that applications catch."""

    def body(db: Both) -> None:
        with pytest.raises(DBAPIError) as raised:
            db.execute(text("SELECT * FROM no_such_table"))
        assert isinstance(raised.value, OperationalError | ProgrammingError)
        (note,) = raised.value.__notes__
        assert "`db.ensure_schema(Base.metadata)`" in note
        assert "`dbscope upgrade`" in note
        db.set_rollback(True)

    world.run(body)


def test_other_errors_have_no_note(world: World) -> None:
    """Of a column, say."""

    def body(db: Both) -> None:
        with pytest.raises(DBAPIError) as raised:
            db.execute(text("SELECT no_such_column FROM item"))
        assert not hasattr(raised.value, "__notes__")
        db.set_rollback(True)

    world.run(body)


class Own(DeclarativeBase): ...


class Shelf(Own):
    __tablename__ = "shelves"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list["Book"]] = relationship()


class Book(Own):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey(Shelf.id))


def test_what_is_loaded_after_the_scope_is_told_to_be_loaded_before(tmp_path: Any) -> None:
    """By a note, too: it is SQLAlchemy's own error."""
    db = Database(f"sqlite:///{tmp_path}/a.db")
    db.ensure_schema(Own.metadata)
    with db.scope():
        db.session.add(shelf := Shelf())
    with pytest.raises(DetachedInstanceError) as raised:
        len(shelf.books)
    (note,) = raised.value.__notes__
    assert "selectinload" in note
    db.dispose()


def test_an_object_of_another_session_is_told_how_it_comes_into_this_one(world: World) -> None:
    """It is SQLAlchemy's own error, which has the numbers of two sessions."""

    def body(db: Both) -> None:
        item = insert(db, "a")
        with db.scope(readonly=True):
            with pytest.raises(InvalidRequestError, match="already attached") as raised:
                db.session.add(item)
            (note,) = raised.value.__notes__
            assert "`session.merge(obj)`" in note
        db.session.add(item)

    world.run(body)
    assert world.items() == ["a"]


def test_a_commit_as_text_is_named_by_its_line(world: World) -> None:
    """As the methods are."""

    def body(db: Both) -> None:
        with pytest.raises(Exception, match=r"as text in .*, at .*\.py:\d+; outside"):
            db.execute(text("COMMIT"))
        db.session.add(Item(name="a"))

    world.run(body)
    assert world.items() == ["a"]
