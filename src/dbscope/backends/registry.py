"""Which backend a database has, by the name of its dialect: the only list of them.

Not by the name in the URL: whoever registers a dialect may call it as they like, and say by its
`name` that it is one of those that are known. One that is none of them may speak the protocol of
one, over its driver, and yet ignore what it is told (CockroachDB, Redshift): it is an `Other`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dbscope.backends import connecting
from dbscope.backends.driver import Driver
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import URL, Column, Engine, Table
    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dbscope.backends.base import Backend
    from dbscope.backends.features import Features
    from dbscope.backends.inserting import Inserting
    from dbscope.backends.migrating import Migrating

# The name of a dialect: the package here, and its class. They are imported when one is used.
BACKENDS = {
    "sqlite": ("sqlite", "SQLite"),
    "postgresql": ("postgresql", "PostgreSQL"),
    "mysql": ("mysql", "MySQL"),
    "mariadb": ("mysql", "MariaDB"),
}
ALIASES = {"postgres": "postgresql"}  # in URLs
OF_FILE = "sqlite:///"  # before the path of a file
EXAMPLES = ("sqlite:///app.db", "postgresql://user@host/name")  # for messages
# The extra of ours that brings a driver.
EXTRAS = {
    "aiosqlite": "aiosqlite",
    "asyncmy": "mysql",
    "asyncpg": "asyncpg",
    "psycopg": "postgres",
    "pymysql": "mysql",
}
# Plugins for pytest, with the fixtures for one kind of database.
PYTEST_PLUGINS = ["dbscope.backends.postgresql.pytest_plugin"]
PACKAGES = {"mysqldb": "mysqlclient", "psycopg2": "psycopg2-binary"}  # where the name is another


@cache
def class_of(name: str) -> type[Backend]:
    """Return the class of the backend of a dialect, by its name."""
    package, cls = BACKENDS.get(name, ("other", "Other"))
    found: type[Backend] = getattr(import_module(f"dbscope.backends.{package}.backend"), cls)
    return found


def backend_of(url: URL, name: str, engine: Engine | AsyncEngine | None = None) -> Backend:
    """Return the backend of one database.

    Args:
        url: with the driver that is to be used.
        name: what messages call the database.
        engine: a ready one, whose dialect counts.
    """
    dialect = url.get_dialect() if engine is None else engine.dialect
    return class_of(dialect.name)(url, name, dialect)


def driver_of(dialect: Dialect | type[Dialect]) -> Driver:
    """Return what is known of the driver of a dialect."""
    return _driver(dialect.name, dialect.driver)


@cache
def _driver(dialect: str, name: str) -> Driver:
    return class_of(dialect).drivers.get(name) or Driver()


def features_of(dialect: Dialect | type[Dialect]) -> Features:
    """Return what a dialect can do."""
    return class_of(dialect.name).features_of(dialect)


def migrating_of(dialect: Dialect | type[Dialect]) -> Migrating:
    """Return what a dialect needs when revisions are written and run."""
    return class_of(dialect.name).migrating()


def inserting_of(dialect: Dialect, table: Table, writer: Column[Any]) -> Inserting:
    """Return how rows are inserted unless they are there; see `Backend.inserting`.

    Raises:
        ConfigurationError: of this database it is not known how.
    """
    found = class_of(dialect.name).inserting(table, writer)
    if found is None:
        message = f"`once` needs PostgreSQL, MySQL, MariaDB or SQLite, not {dialect.name!r}."
        raise ConfigurationError(message)
    return found


def known() -> list[type[Backend]]:
    """Return the class of each known kind of database."""
    return [class_of(name) for name in BACKENDS]


def require(backend: Backend, *features: str, where: str = "") -> None:
    """Raise ConfigurationError for the first of these features that a database has not.

    Args:
        backend: of the database.
        features: what is asked for.
        where: who asks, for the message.
    """
    for feature in features:
        if not getattr(backend.features, feature):
            raise ConfigurationError(
                f"{where}{connecting.WORDS[feature]} was asked of a database that is called "
                f"{backend.features.name!r}, where it would be ignored; leave it out, or use "
                f"{', '.join(able_to(feature))}."
            )


def able_to(feature: str) -> list[str]:
    """Return the databases that have a feature."""
    features = [each.features for each in known()]
    return [each.name for each in features if getattr(each, feature)]
