"""What differs between databases before there is a transaction: the URL, the engine, connecting."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, NoReturn

from dbscope.backends import errors
from dbscope.backends.features import Features
from dbscope.backends.sql_text import ending
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine
    from sqlalchemy.engine.interfaces import Dialect

NO_CLASS = "dbscope derives its own class from it, so it must be a subclass of `sqlite3.Connection`"
AUTOCOMMIT = (
    "it stores each statement at once, so a scope that fails could not be rolled back; for "
    "autocommit use `atomic_requests=False`"
)

# How messages call what is asked for.
WORDS = {
    "readonly": "`readonly`",
    "statement_timeout": "`timeout`",
    "isolation": "`isolation`",
    "session_settings": "`session_settings`",
    "verify_commit": "`verify_commit`",
    "advisory_locks": "`advisory_lock`",
    "reset_session": "`reset_session`",
}


class Connecting:
    """How one database is connected to.

    Args:
        url: with the driver that is to be used.
        name: what messages call the database.
        dialect: of SQLAlchemy's, or a class of them.
    """

    features: Features

    def __init__(self, url: URL, name: str, dialect: Dialect | type[Dialect]) -> None:
        self.url = url
        self.name = name
        if not hasattr(type(self), "features"):
            self.features = self.features_of(dialect)

    @classmethod
    def features_of(cls, dialect: Dialect | type[Dialect]) -> Features:  # noqa: ARG003
        """Return what a dialect of this family can do."""
        return cls.features

    def refuse(self, feature: str) -> NoReturn:
        """Raise ConfigurationError for a feature that the database has not."""
        raise ConfigurationError(f"{self.name} does not support {WORDS[feature]}; leave it out.")

    @classmethod
    def check_url(cls, url: URL) -> None:
        """Raise ConfigurationError for what a URL of this kind cannot mean."""

    @property
    def file(self) -> str | None:
        """The path of the file that the database is; None: it is a server, or in memory."""
        return None

    @property
    def is_memory(self) -> bool:
        """Whether the database is in the memory of this process, and ends with its connections."""
        return False

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler is known to be in between, so that no session is ours."""
        return False

    @property
    def has_reader(self) -> bool:
        """Whether an engine of its own can be made for what only reads."""
        return self.features.reader

    def engine_options(self, *, is_async: bool) -> dict[str, Any]:  # noqa: ARG002
        """Return what `create_engine` needs."""
        return {}

    def connect_args(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of the driver's `connect`, with what ours need on top."""
        return given

    @classmethod
    def wrong_argument(cls, name: str, value: Any) -> str | None:
        """Say what is wrong with an argument of the driver's `connect`; None: nothing."""
        if name == "init_command" and ending(str(value or ""), "mysql"):
            return AUTOCOMMIT
        if name != "factory" or value is None:
            return None
        fits = isinstance(value, type) and issubclass(value, sqlite3.Connection)
        return None if fits else NO_CLASS

    def install(self, engine: Engine) -> None:
        """Listen to an engine before all others do: once for its life."""

    def install_last(self, engine: Engine) -> None:
        """Listen to an engine when all others do."""

    def refuse_writes(self, connection: Any, dialect: Any) -> None:  # noqa: ARG002
        """Make a new connection one that cannot write."""
        self.refuse("reader")

    def why_not_connected(self, error: Exception) -> str | None:  # noqa: ARG002
        """Say what has to be there first, so that one can connect; None: that is not known."""
        return None

    def login_state(self, error: Exception) -> str | None:
        """Return the SQLSTATE of an error of connecting."""
        return errors.sqlstate(error)
