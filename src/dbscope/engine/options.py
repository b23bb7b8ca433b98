"""The options of SQLAlchemy's that may be given: what cannot be honoured is refused at once.

Whatever SQLAlchemy knows by its signatures is passed on, but for what would take the transaction
out of our hands without anybody's noticing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from dbscope.backends.connecting import AUTOCOMMIT
from dbscope.engine import pool
from dbscope.engine.rules import mapping, never, number, only
from dbscope.errors import ConfigurationError
from dbscope.unit.options import ISOLATION_LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dbscope.backends.base import Backend
    from dbscope.engine.rules import Rule


ENGINE_IS_OURS = "the session belongs to the engine of its database; give the URL, or `engine=`"
ONE_ENGINE = "a transaction belongs to one engine; make a database for each engine"
BY_STATEMENT = "ask for it with each statement: `execution_options(stream_results=True)`"
PARAMSTYLES = ("qmark", "numeric", "numeric_dollar", "named", "format", "pyformat")
READY = "give the ready engine instead: `engine=create_engine(...)`"


def no_autocommit(level: Any) -> str | None:
    """Say what is wrong with an isolation level."""
    if level is None:
        return None
    name = str(level).upper().replace("_", " ").replace("-", " ").strip()
    if name.replace(" ", "") == "AUTOCOMMIT":
        return AUTOCOMMIT
    return None if name in (*ISOLATION_LEVELS, "SNAPSHOT") else "there is no such isolation level"


def no_autocommit_inside(options: Any) -> str | None:
    """Say what is wrong with execution options."""
    if options is None or not isinstance(options, Mapping):
        return mapping(options)
    for name, rule in EXECUTION.items():
        if name in options and (wrong := rule(options[name])):
            return f"{name}={options[name]!r}: {wrong}"
    return None


SESSION: dict[str, Rule] = {
    "bind": never(ENGINE_IS_OURS),
    "binds": never(ONE_ENGINE),
    "class_": never("the class of the session is `session_class=`"),
    "twophase": only(False, why="two-phase commit is not supported"),
    "autobegin": only(True, why="a transaction begins by itself with the first statement"),
    "autocommit": only(False, why=AUTOCOMMIT),
    "future": only(True, why="SQLAlchemy 2 has no other kind of session"),
    "close_resets_only": only(False, why="a session that was closed could be used again unnoticed"),
    "join_transaction_mode": never("there is no connection to join; its engine is that of the URL"),
    "execution_options": no_autocommit_inside,
}
ASYNC_ONLY = {"sync_session_class": SESSION["class_"]}


def not_streaming(options: Any) -> str | None:
    """Say what is wrong with execution options for all that an engine does."""
    if wrong := no_autocommit_inside(options):
        return wrong
    given: Mapping[str, Any] = options or {}
    streaming = [name for name in ("stream_results", "yield_per") if given.get(name)]
    return f"{streaming[0]}: {BY_STATEMENT}" if streaming else None


EXECUTION: dict[str, Rule] = {
    "isolation_level": no_autocommit,
    "schema_translate_map": mapping,
    "compiled_cache": mapping,
    "yield_per": number(int, or_none=True),
}
OF_POOL: dict[str, Rule] = {  # of those that have such an option
    "pool_size": number(int),
    "max_overflow": number(int),
    "pool_timeout": number(int, float, or_none=True),
    "pool_recycle": number(int, float),
}
ENGINE: dict[str, Rule] = {
    "isolation_level": no_autocommit,
    "execution_options": not_streaming,
    "paramstyle": only(None, *PARAMSTYLES, why=f"it must be one of {', '.join(PARAMSTYLES)}"),
    "pool": never(f"read-only scopes need a pool of their own; give `poolclass=`, or {READY}"),
    "creator": never(f"dbscope could not set up its connections; use `connect_args`, or {READY}"),
    "async_creator": never(
        f"dbscope could not set up its connections; use `connect_args`, or {READY}"
    ),
    "module": never(f"dbscope does not know how it ends a transaction; {READY}"),
    "dbapi": never(f"SQLAlchemy ignores it; {READY}"),
    "strategy": never("it makes an engine that connects to nothing"),
    "server_side_cursors": only(False, None, why=BY_STATEMENT),
    "query_cache_size": number(int),
    "insertmanyvalues_page_size": number(int),
    "label_length": number(int, or_none=True),
    "max_identifier_length": number(int, or_none=True),
    "connect_args": mapping,
    "pool_reset_on_return": only(
        True, False, None, "rollback", why="it would commit what is to be rolled back"
    ),
    "future": only(True, why="SQLAlchemy 2 has no other kind of engine"),
    "_is_async": never("`Database` or `AsyncDatabase` decides it"),
    "_initialize": never("SQLAlchemy would not ask the server for its version"),
    "_coerce_config": only(False, why="give values of the right type instead of texts"),
    "_dispatch": never("it is SQLAlchemy's own"),
    "dialect": never("it is part of the URL"),
    "url": never("it is the first argument of the database"),
}
CONNECT: dict[str, Rule] = {
    "autocommit": only(False, None, why=AUTOCOMMIT),
    "defer_connect": only(False, None, why="nobody would connect it later"),
    "async_creator_fn": never(f"dbscope could not set up its connections; {READY}"),
}
UNNAMED = {Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL}
# What `create_engine` takes by itself, and hands to nobody.
OF_CREATE = frozenset(
    [
        "connect_args",
        "poolclass",
        "plugins",
        "enable_from_linting",
        "empty_in_strategy",
        "isolation_level",
    ]
)
TRANSLATED = {
    "logging_name": "pool_logging_name",
    "echo": "echo_pool",
    "timeout": "pool_timeout",
    "recycle": "pool_recycle",
    "events": "pool_events",
    "use_lifo": "pool_use_lifo",
    "reset_on_return": "pool_reset_on_return",
    "pre_ping": "pool_pre_ping",
}


def check_session(options: Mapping[str, Any], session_class: Any, *, is_async: bool) -> None:
    """Check the options of a session.

    Raises:
        ConfigurationError: one that there is not, or that cannot be honoured.
    """
    kind: Any = AsyncSession if is_async else Session
    usual: Any = getattr(session_class, "sync_session_class", None)
    if not issubclass(session_class, kind):
        ours, other = ("AsyncDatabase", "Database")[:: 1 if is_async else -1]
        is_other = issubclass(session_class, Session if is_async else AsyncSession)
        raise ConfigurationError(
            f"session_class of {ours} must be a subclass of {kind.__name__}, not {session_class!r}"
            + (f", which is one for {other}." if is_other else ".")
        )
    known = keywords(session_class)
    if is_async:
        plain: Any = options.get("sync_session_class") or usual
        if not (isinstance(plain, type) and issubclass(plain, Session)):
            raise ConfigurationError(
                f"session_options: sync_session_class={plain!r} must be a class of sessions."
            )
        known |= keywords(plain)
    rules = SESSION if is_async else SESSION | ASYNC_ONLY
    _check("session_options", options, rules, known, session_class.__name__)


def check_engine(options: Mapping[str, Any], backend: Backend, *, is_async: bool) -> None:
    """Check the options of an engine that we are to make; nothing is imported but the dialect.

    Raises:
        ConfigurationError: one that there is not, or that cannot be honoured.
    """
    url = backend.url
    dialect: type[Dialect] = url.get_dialect()
    if is_async:
        dialect = dialect.get_async_dialect_cls(url)
    found = pool.class_for(options, backend, dialect, is_async=is_async)
    known = names_of(dialect, options.get("poolclass") or found)
    if options.get("plugins") or "plugin" in url.query:
        known |= set(options)  # which they may take
    rules = ENGINE | {name: rule for name, rule in OF_POOL.items() if name in known}
    _check("engine_options", options, rules, known, f"{dialect.__name__} and {found.__name__}")
    connect: dict[str, Any] = dict(options.get("connect_args") or ())
    query = {name: _of_query(value) for name, value in url.query.items()}
    for what, given in (("engine_options: connect_args", connect), ("The URL", query)):
        of_driver = {name: partial(backend.wrong_argument, name) for name in given}
        _check(what, given, of_driver | CONNECT)


def names_of(dialect: type[Dialect], poolclass: type[Any]) -> set[str]:
    """Return the names of the options of an engine with this dialect and pool."""
    of_pool = {TRANSLATED.get(name, name) for name in keywords(poolclass)}
    return keywords(dialect) | of_pool | keywords(Engine) | OF_CREATE


def keywords(cls: type[Any]) -> set[str]:
    """Return the names of what a class takes when it is made, with what it hands to its bases."""
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = parameters_of(vars(base)["__init__"])
        names |= {each.name for each in parameters if each.kind not in UNNAMED}
        if all(each.kind is not Parameter.VAR_KEYWORD for each in parameters):
            break
    return names - {"self"}


@lru_cache
def parameters_of(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Return them; looked up once, since each database asks for those of the same classes."""
    return tuple(signature(function).parameters.values())


def check_given(engine: Engine | AsyncEngine) -> None:
    """Check an engine that was made elsewhere.

    Raises:
        ConfigurationError: its connections commit by themselves.
    """
    options = (engine.get_execution_options().get("isolation_level"),)
    level = getattr(engine.dialect, "_on_connect_isolation_level", None)
    for each in (*options, level):
        if each is not None and no_autocommit(each) == AUTOCOMMIT:
            raise ConfigurationError(f"The engine has isolation_level={each!r}: {AUTOCOMMIT}.")


def homes(*, is_async: bool) -> dict[str, set[str]]:
    """Return the names that people know from SQLAlchemy, and the option that takes each."""
    poolclass = AsyncAdaptedQueuePool if is_async else QueuePool
    return {
        "session_options": keywords(Session) | set(SESSION),
        "engine_options": names_of(DefaultDialect, poolclass) | set(ENGINE),
    }


def _of_query(value: Any) -> Any:
    """Return the value of a part of a URL; what stands for False as that."""
    off = isinstance(value, str) and value.lower() in {"", "0", "false", "no", "off", "none"}
    return False if off else value


def _check(
    what: str,
    options: Mapping[str, Any],
    rules: Mapping[str, Rule],
    known: Collection[str] | None = None,
    of: str = "",
) -> None:
    for name, value in options.items():
        wrong = rules[name](value) if name in rules else None
        if wrong is not None:
            raise ConfigurationError(f"{what}: {name}={value!r} cannot be honoured: {wrong}.")
        if known is not None and name not in known and name not in rules:
            raise ConfigurationError(f"{what}: {name!r} is no option of {of}.")
