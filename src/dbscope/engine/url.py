"""One URL for both kinds of database: which driver each of them uses."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol, cast

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from dbscope import arguments
from dbscope.arguments import Rule
from dbscope.backends import registry
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect


class Spelled(Protocol):
    """A URL of pydantic, `PostgresDsn` for example."""

    def unicode_string(self) -> str:
        """Return it as a text."""
        ...


Address = str | URL | Spelled


def _instead(value: Any) -> str | None:
    """Say what to write instead of something that is no URL."""
    if isinstance(value, PathLike):
        return f'A file is f"{registry.OF_FILE}{{path}}".'
    if hasattr(value, "dialect"):
        return "Pass an engine as `engine=...`."
    if hasattr(value, "get_secret_value"):
        return "Pass its value: `.get_secret_value()`."
    return None


ADDRESS = Rule(
    f"a URL such as {registry.EXAMPLES[0]!r}",
    lambda value: isinstance(value, str | URL),
    _instead,
    lambda value: f"an object of {type(value).__name__}",
)


def parse(url: Address) -> URL:
    """Return the URL; ConfigurationError if it cannot be read (its password is never shown)."""
    if not isinstance(url, str | URL) and hasattr(url, "unicode_string"):
        url = url.unicode_string()
    try:
        parsed = make_url(arguments.check("url", cast("str | URL", url), ADDRESS))
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "The database URL cannot be read; it should look like "
            f"{' or '.join(registry.EXAMPLES)}."
        ) from None  # it may quote a part of the password
    backend, _, driver = parsed.drivername.partition("+")
    backend = registry.ALIASES.get(backend, backend)
    registry.class_of(backend).check_url(parsed)
    return parsed.set(drivername=f"{backend}+{driver}" if driver else backend)


def for_kind(url: URL, *, is_async: bool, companion: bool = False) -> URL:
    """Return the URL with a driver of this kind.

    Args:
        url: the URL that was given.
        is_async: for `AsyncDatabase`.
        companion: the database is the other kind of one that was given this URL, so a driver of
            the wrong kind is replaced; otherwise it is an error.

    Raises:
        ConfigurationError: no such database, the driver is of the other kind or not installed.
    """
    backend, _, driver = url.drivername.partition("+")
    usual = registry.class_of(backend).default_drivers[is_async]
    if not driver:
        url = url.set(drivername=f"{backend}+{usual}" if usual else backend)
    fits = serves(url, is_async=is_async)
    if not fits and companion and driver and usual:
        url = url.set(drivername=f"{backend}+{usual}")
        fits = serves(url, is_async=is_async)
    if not fits:
        wanted, kind = ("an async", "AsyncDatabase") if is_async else ("a plain", "Database")
        raise ConfigurationError(
            f"{kind} needs {wanted} driver, and {url.drivername} is not one"
            + (f"; use {backend}+{usual}." if usual else ".")
        )
    return url


def serves(url: URL, *, is_async: bool) -> bool:
    """Tell whether the driver of this URL can serve this kind of database."""
    try:
        dialect: type[Dialect] = url.get_dialect()
    except NoSuchModuleError as error:
        raise ConfigurationError(f"There is no database called {url.drivername!r}.") from error
    if is_async:
        dialect = dialect.get_async_dialect_cls(url)
    return dialect.is_async is is_async
