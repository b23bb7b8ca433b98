"""Why work was not kept, in words without anybody's data."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from dbscope.errors import TransactionEndedOutside
from dbscope.unit import callsite
from dbscope.watch import lines

if TYPE_CHECKING:
    from dbscope.unit.unit import Unit

FIRST_ERROR = 400
LONGEST = 200  # letters of what a client is told

Reason = tuple[str, "callsite.Place | str | None"]  # in words, and the line


def describe(error: BaseException, unit: Unit) -> str:
    """Name an error by its class and code; its text may have what people have entered.

    Args:
        error: it.
        unit: that it has come to, whose database knows what drivers say.
    """
    name = type(error).__name__
    if isinstance(error, DBAPIError) and error.orig is not None:
        return f"{name} ({unit.source.watching.without_data(error.orig)})"
    status, detail = getattr(error, "status_code", None), getattr(error, "detail", None)
    if isinstance(status, int):  # what the client is told
        return (
            f"{name} {status} {shown(detail)!r}" if isinstance(detail, str) else f"{name} {status}"
        )
    cause = error.__cause__
    return f"{name} from {describe(cause, unit)}" if isinstance(cause, DBAPIError) else name


def shown(detail: str) -> str:
    """Return what a client is told, in a length that can be kept for each record."""
    return detail if len(detail) <= LONGEST else f"{detail[:LONGEST]}…"


def of_error(error: BaseException, unit: Unit) -> Reason:
    """Return the reason that an error is to a unit, with the line that it was raised at."""
    line = lines.line_of(error)
    told = "cancelled" if isinstance(error, CancelledError) else describe(error, unit)
    verb = "" if isinstance(error, CancelledError) else " raised"
    return (told if line is None else f"{told}{verb} at {lines.told(line)}"), line


def of_unknown(error: BaseException) -> str:
    """Return why nobody knows what became of the work."""
    if isinstance(error, TransactionEndedOutside):
        return "the transaction was ended on the driver's connection"
    return "the answer to COMMIT was lost"


def of_answer(status: int, asgi: Any) -> Reason:
    """Return the reason that an answer is, or the veto that has seen no other."""
    endpoint = asgi.get("endpoint")
    where = None if endpoint is None else callsite.of(endpoint)
    place = f" by {getattr(endpoint, '__name__', endpoint)} at {lines.told(where)}" if where else ""
    if status >= FIRST_ERROR:
        return f"{status} returned{place}", where
    return f"the veto of the application refused the {status} returned{place}", where
