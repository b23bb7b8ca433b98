"""The options that were given for an engine, once there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import URL
    from sqlalchemy.engine.interfaces import Dialect


def check_levels(dialect: Dialect, options: Mapping[str, Any]) -> None:
    """Check the isolation levels of an engine, which SQLAlchemy does when it has connected.

    Raises:
        ConfigurationError: its database has no such level.
    """
    known = levels_of(dialect)
    inside = dict(options.get("execution_options") or {})
    for given in (options, inside):
        level = given.get("isolation_level")
        if level is not None and known and str(level).replace("_", " ").upper() not in known:
            raise ConfigurationError(
                f"engine_options: isolation_level={level!r} cannot be honoured: {dialect.name} has "
                f"{', '.join(known)}."
            )


def levels_of(dialect: Dialect) -> Sequence[str]:
    """Return the isolation levels of a database; none: it is not known before one connects."""
    try:
        return dialect.get_isolation_level_values(cast("Any", None))
    except (NotImplementedError, AttributeError):
        return ()


def among(options: Mapping[str, Any], url: URL) -> str:
    """Name the options that were given, for an error that does not say which it is about."""
    names = [*url.query, *(options.get("connect_args") or ()), *options]
    named = ", ".join(dict.fromkeys(name for name in names if name != "connect_args"))
    return f", perhaps by what was given as {named}" if named else ""
