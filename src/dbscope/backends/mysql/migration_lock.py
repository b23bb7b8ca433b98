"""One process migrates, the others wait: a lock of the session that migrates.

It is one of the whole server, and its name has at most 64 characters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from dbscope.backends.migrating import wait_for
from dbscope.errors import MigrationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

NAME = "CONCAT('dbscope ', SHA1(DATABASE()))"
ASK = text(f"SELECT GET_LOCK({NAME}, 0)")
WHO = text(f"SELECT CONCAT('connection ', IS_USED_LOCK({NAME}))")
NODES = text("SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'")


def take(connection: Connection, timeout: float, *, alone: bool) -> None:
    """Take the lock; it is given back when the session ends.

    Args:
        connection: whose session.
        timeout: seconds.
        alone: on Galera, nobody migrates by another node.

    Raises:
        MigrationError: the time was up, or it is a cluster.
    """
    if not alone:
        _refuse_galera(connection)
    wait_for(lambda: _ask(connection), lambda: _who(connection), timeout)


def _ask(connection: Connection) -> bool:
    granted = bool(connection.scalar(ASK))
    connection.commit()
    return granted


def _who(connection: Connection) -> str | None:
    who: str | None = connection.scalar(WHO)
    connection.rollback()
    return who


def _refuse_galera(connection: Connection) -> None:
    found = connection.execute(NODES).first()
    connection.rollback()
    if found is not None and int(found[1]) > 1:
        raise MigrationError(
            f"This is a Galera cluster of {found[1]} nodes, and no lock of one node is seen by the "
            "others: two processes might migrate at once. Let one process migrate, in a step of "
            "the deployment: `dbscope upgrade --alone`, and the application at_start('check'). "
            "Or, if all are connected to one node: Migrations(db, alone=True)."
        )
