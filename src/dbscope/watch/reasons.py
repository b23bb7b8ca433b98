"""Why work was not kept, in words without anybody's data."""

from __future__ import annotations

import re
import sqlite3
from asyncio import CancelledError
from typing import Any

from sqlalchemy.exc import DBAPIError

from dbscope.unit import callsite
from dbscope.watch import lines

FIRST_ERROR = 400
NAMES_ONLY = re.compile(r"[\w ]+ constraint failed(: [\w., ]+)?")  # SQLite's, which has no values

Reason = tuple[str, "callsite.Place | str | None"]  # in words, and the line


def describe(error: BaseException) -> str:
    """Name an error by its class and code; its text may have what people have entered."""
    name = type(error).__name__
    if isinstance(error, DBAPIError) and error.orig is not None:
        return f"{name} ({_of_driver(error.orig)})"
    status, detail = getattr(error, "status_code", None), getattr(error, "detail", None)
    if isinstance(status, int):  # what the client is told
        return f"{name} {status} {detail!r}" if isinstance(detail, str) else f"{name} {status}"
    cause = error.__cause__
    return f"{name} from {describe(cause)}" if isinstance(cause, DBAPIError) else name


def _of_driver(error: BaseException) -> str:
    if isinstance(error, sqlite3.Error) and NAMES_ONLY.fullmatch(str(error)):
        return str(error)
    inner: Any = error if error.__cause__ is None else error.__cause__
    diagnosed: Any = getattr(error, "diag", inner)
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    if code is None and error.args and isinstance(error.args[0], int):  # of MySQL's drivers
        code = error.args[0]
    told = [str(part) for part in (code, getattr(diagnosed, "constraint_name", None)) if part]
    return " ".join(told) or type(error).__name__


def of_error(error: BaseException) -> Reason:
    """Return the reason that an error is, with the line that it was raised at."""
    line = lines.line_of(error)
    told = "cancelled" if isinstance(error, CancelledError) else describe(error)
    verb = "" if isinstance(error, CancelledError) else " raised"
    return (told if line is None else f"{told}{verb} at {lines.told(line)}"), line


def of_answer(status: int, asgi: Any) -> Reason:
    """Return the reason that an answer is, or the veto that has seen no other."""
    endpoint = asgi.get("endpoint")
    where = None if endpoint is None else callsite.of(endpoint)
    place = f" by {getattr(endpoint, '__name__', endpoint)} at {lines.told(where)}" if where else ""
    if status >= FIRST_ERROR:
        return f"{status} returned{place}", where
    return f"the veto of the application refused the {status} returned{place}", where
