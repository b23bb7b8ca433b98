"""Which connections are not fit for anybody else: what failed there would fail there again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbscope.backends import errors
from dbscope.backends.base import info_of
from dbscope.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.exc import DBAPIError

    from dbscope.backends.base import Backend
    from dbscope.unit.unit import Unit


def is_unfit(
    backend: Backend, connection: Connection, unit: Unit | None, error: BaseException
) -> bool:
    """Tell whether a connection has to be discarded after this error.

    The server cannot serve now; or it became read-only, as one does that is no primary any more;
    or a transaction had failed there before this one began.
    """
    if errors.cannot_serve(error) or info_of(connection).pop(errors.LEFT_OVER, False):
        return True
    is_readonly = unit is not None and unit.is_readonly
    if is_readonly or not errors.is_refused_write(error):
        return False
    return backend.became_read_only(connection)


def unavailable(unit: Unit, error: DBAPIError) -> DatabaseUnavailable:
    """Return the error of a statement whose connection is discarded.

    What the server has refused it has not done.
    """
    refused = errors.is_refused(error.orig)
    what = f"The connection of {unit.scope} was lost"
    if refused:
        what = f"The server cannot serve {unit.scope} now"
    found = DatabaseUnavailable(f"{what}: {error.orig}.")
    found.nothing_was_stored = refused and not unit.scope.stored
    return found
