"""The rest of a result that is read in pieces, when its transaction is rolled back.

Both drivers would read it to its end before they say ROLLBACK: perhaps for hours, and in one thread
while whoever makes the body of a response reads the same socket in another, so that one of the two
waits for ever. The connection is given up instead, which the server takes as ROLLBACK.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import PoolProxiedConnection

from dbscope.backends.mysql import kill
from dbscope.backends.mysql.drivers import has_rest

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Dialect, Engine


def install(engine: Engine) -> None:
    """Look at each ROLLBACK, of which the dialect hears whoever asks for it."""
    dialect: Any = engine.dialect
    dialect.do_rollback = partial(roll_back, dialect, dialect.do_rollback)


def roll_back(dialect: Dialect, send: Callable[[Any], None], connection: Any) -> None:
    """Send ROLLBACK, or give the connection up where much may come before the answer.

    Args:
        dialect: whose connection it is.
        send: the dialect's own way to say ROLLBACK.
        connection: the pool's; the driver's, where the pool has it back, is closed after this.
    """
    driver: Any = getattr(connection, "driver_connection", None)
    result: Any = getattr(driver, "_result", None)
    if not (isinstance(connection, PoolProxiedConnection) and has_rest(result)):
        send(connection)
        return
    kill.cut(dialect, connection)
    result.unbuffered_active = False  # else whoever collects it would read on
    connection.invalidate()
