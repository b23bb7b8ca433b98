"""The log: all about an error but what people have entered.

A driver repeats values in its messages, PostgreSQL in its DETAIL: "Key (email)=(anna@example.com)
already exists."
"""

import logging
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from sqlalchemy.exc import DBAPIError

from dbscope import masked

ABOUT_CODE = (
    AttributeError,
    ImportError,
    NameError,
    NotImplementedError,
    RecursionError,
    TypeError,
)


class Formatter(logging.Formatter):
    """Writes tracebacks without the messages of the database, and no secret anywhere."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or the lines."""
        return masked(super().format(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name of logging
        """Return the traceback, outermost error last."""
        _, error, _ = ei
        return (
            "\n".join(lines(error)).rstrip() if error is not None else super().formatException(ei)
        )


def lines(error: BaseException) -> Iterator[str]:
    """Give the tracebacks of an error and of those that it came from."""
    for each in reversed(list(chain(error))):
        tb: TracebackType | None = each.__traceback__
        yield "Traceback (most recent call last):"
        yield "".join(traceback.format_tb(tb)).rstrip()
        yield f"{type(each).__module__}.{type(each).__qualname__}: {safe_text(each)}"
        yield ""


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error, what it came from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        shown = None if error.__suppress_context__ else error.__context__
        error = error.__cause__ or shown


def safe_text(error: BaseException) -> str:
    """Return the message of an error if it is about the program, and not about what came in."""
    if isinstance(error, DBAPIError):
        code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorname", "")
        return f"(values are not shown) {code} in: {error.statement}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if is_about_the_program(error) else "(values are not shown)"


def is_about_the_program(error: BaseException) -> bool:
    """Tell whether we have raised it, or Python about our code; others may quote what came in."""
    raised_by = type(error).__module__.partition(".")[0]
    return raised_by in ("dbscope", "server") or isinstance(error, ABOUT_CODE)


class WithoutQuery(logging.Filter):
    """Leaves the query out of the access log: what people look for is theirs."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record of uvicorn: address, method, path, version, status."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args
            )
        return True


CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"without query": {"()": WithoutQuery}},
    "formatters": {"plain": {"()": Formatter, "fmt": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "server": {"level": "INFO"},
        "uvicorn": {"handlers": [], "level": "INFO", "propagate": True},
        "uvicorn.access": {
            "handlers": [],
            "level": "INFO",
            "propagate": True,
            "filters": ["without query"],
        },
        "uvicorn.error": {"level": "INFO", "propagate": True},
    },
}
