"""What a database can do of what it may be asked for: one place decides it.

A dialect that is none of those here may speak the protocol of one, over its driver, and yet ignore
what it is told (CockroachDB, Redshift). So whatever has no entry can nothing but what SQLAlchemy
itself does for it, and is refused the rest instead of dropping it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy.engine.default import DefaultDialect

from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine
    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.ext.asyncio import AsyncEngine

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What one kind of database can do; False is refused where it is asked for."""

    name: str  # how SQLAlchemy calls its dialect
    family: str = ""  # whose SQL it is: postgresql, mysql, sqlite, or nobody's that we know
    autocommit_reads: bool = False  # a read alone needs no BEGIN and no COMMIT
    commits_last: bool = False  # among several databases
    readonly: bool = False  # the database itself refuses to write
    reader: bool = False  # … in connections that are made for it
    statement_timeout: bool = False
    isolation: bool = False
    session_settings: bool = False
    verify_commit: bool = False
    advisory_locks: bool = False
    reset_session: bool = False

    def require(self, *names: str, where: str = "") -> None:
        """Raise ConfigurationError for the first of these that the database cannot do.

        Args:
            names: of features.
            where: who asks, for the message.
        """
        for name in names:
            if not getattr(self, name):
                raise ConfigurationError(
                    f"{where}{WORDS[name]} was asked of a database that is called {self.name!r}, "
                    f"where it would be ignored; {_who_can(name)}."
                )


POSTGRESQL = Features(
    name="postgresql",
    family="postgresql",
    autocommit_reads=True,
    readonly=True,
    reader=True,
    statement_timeout=True,
    isolation=True,
    session_settings=True,
    verify_commit=True,
    advisory_locks=True,
    reset_session=True,
)
SQLITE = Features(
    name="sqlite",
    family="sqlite",
    commits_last=True,
    readonly=True,
    reader=True,
    statement_timeout=True,
    isolation=True,  # which is SERIALIZABLE always
)
MYSQL = Features(
    name="mysql",
    family="mysql",
    readonly=True,
    reader=True,
    statement_timeout=True,
    isolation=True,
    advisory_locks=True,
    reset_session=True,
)
MARIADB = replace(MYSQL, name="mariadb")
KNOWN = {each.name: each for each in (POSTGRESQL, SQLITE, MYSQL, MARIADB)}


def _who_can(feature: str) -> str:
    able = [each.name for each in KNOWN.values() if getattr(each, feature)]
    return f"leave it out, or use {', '.join(able)}"


def features_of(url: URL, engine: Engine | AsyncEngine | None = None) -> Features:
    """Return what the database of this URL can do, by the name of its dialect.

    Not by the name in the URL: whoever registers a dialect may call it as they like, and say by
    its `name` that it is one of those that are known.
    """
    dialect = url.get_dialect() if engine is None else type(engine.dialect)
    known = KNOWN.get(dialect.name)
    return known or Features(name=dialect.name, isolation=_sets_isolation(dialect))


def _sets_isolation(dialect: type[Dialect]) -> bool:
    """Tell whether SQLAlchemy's own option for it does something there."""
    return dialect.set_isolation_level is not DefaultDialect.set_isolation_level
