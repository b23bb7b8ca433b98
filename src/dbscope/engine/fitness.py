"""Which connections are not fit for anybody else: what failed there would fail there again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbscope.backends import errors
from dbscope.backends.mysql import implicit_commit
from dbscope.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.exc import DBAPIError

    from dbscope.unit.unit import Unit

LEFT_OVER = "dbscope.left_over"
# PostgreSQL reports them whenever they change (libpq, "PQparameterStatus").
REPORTED = ("default_transaction_read_only", "in_hot_standby")


def is_unfit(connection: Connection, unit: Unit | None, error: BaseException) -> bool:
    """Tell whether a connection has to be discarded after this error.

    The server cannot serve now; or it became read-only, as one does that is no primary any more;
    or a transaction had failed there before this one began.
    """
    if errors.cannot_serve(error) or connection.info.pop(LEFT_OVER, False):
        return True
    is_readonly = unit is not None and unit.is_readonly
    return not is_readonly and errors.is_refused_write(error) and became_read_only(connection)


def became_read_only(connection: Connection) -> bool:
    """Tell whether it is the session that cannot write, and not only its transaction."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name in implicit_commit.BACKENDS:
        return implicit_commit.is_read_only(connection)
    if connection.dialect.name != "postgresql":
        return False
    told = [reported(driver, name) for name in REPORTED]
    return "on" in told or None in told  # a pooler keeps it to itself


def reported(driver: Any, name: str) -> str | None:
    """Return a setting of the session as the driver was told of it; None: it was not."""
    if hasattr(driver, "get_settings"):  # asyncpg
        value: str | None = getattr(driver.get_settings(), name, None)
        return value
    info = getattr(driver, "info", None)
    return None if info is None else info.parameter_status(name)


def unavailable(unit: Unit, error: DBAPIError) -> DatabaseUnavailable:
    """Return the error of a statement whose connection is discarded.

    What the server has refused it has not done.
    """
    refused = errors.is_refused(error.orig)
    told = f"The connection of {unit.scope} was lost"
    if refused:
        told = f"The server cannot serve {unit.scope} now"
    found = DatabaseUnavailable(f"{told}: {error.orig}.")
    found.nothing_was_stored = refused and not unit.scope.stored
    return found
