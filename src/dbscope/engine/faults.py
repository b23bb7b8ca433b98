"""Errors by meaning: SQLSTATE or native code, never the words of a message."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

# PostgreSQL, "Appendix A. PostgreSQL Error Codes": connection exceptions (class 08), too many
# connections, and the server shutting down, crashed or still starting (57P01 to 57P03).
AWAY = frozenset({"53300", "57P01", "57P02", "57P03"})


def sqlstate(error: BaseException | None) -> str | None:
    """Return the five characters of SQLSTATE, where the driver gives them."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def is_away(error: BaseException) -> bool:
    """Tell whether an error of connecting says that the database cannot be reached now."""
    if isinstance(error, DBAPIError):
        error = error.orig or error
    state = sqlstate(error)
    if state is not None:
        return state in AWAY or state.startswith("08")
    if isinstance(error, OSError | TimeoutError):
        return True
    return type(error).__name__ in {"OperationalError", "InterfaceError", "InternalClientError"}
