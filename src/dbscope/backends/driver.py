"""What differs between drivers, beside what SQLAlchemy knows of them."""

from __future__ import annotations

from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection


WAYS = ("do_execute", "do_executemany", "do_execute_no_params")  # of a dialect, to send a statement


class ConnectionStatus(Enum):
    """What a driver knows about its connection without asking the server."""

    IDLE = "idle"
    IN_TRANSACTION = "in a transaction"
    IN_ERROR = "in a failed transaction"
    CLOSED = "closed"


class Driver:
    """What differs between drivers; this one stands for all of which nothing is known."""

    polled = False  # it learns that the server has closed an idle connection only by reading
    bound_to_loop = True  # its connections live in the event loop in which they were made
    batches_parameters = False  # many sets of parameters are better sent in batches
    says_goodbye = False  # what there is to be read of an idle connection may be the last word
    resets_session = False
    package = ""  # that brings it, where it has another name
    counts_late = False  # rows that are written and come back, when all were read
    statement_cache = ""  # what becomes of it if each statement has a text of its own
    of_python = ""  # how it is called, where Python itself brings it

    @cached_property
    def futures_only(self) -> bool:
        """Tell whether COMMIT and ROLLBACK are known to wait for plain futures only."""
        return False

    def status(self, connection: Any) -> ConnectionStatus:  # noqa: ARG002
        """Return the state of a connection, as the pool's guard wants it."""
        return ConnectionStatus.IDLE

    def transaction_status(self, connection: Any) -> ConnectionStatus:
        """Return what the server has said last about the transaction."""
        return self.status(connection)

    def commits_by_itself(self, connection: Any) -> bool:
        """Tell whether it was told to store each statement at once."""
        return getattr(connection, "autocommit", None) is True

    def read_goodbye(self, connection: Connection, dbapi: Any) -> str:  # noqa: ARG002
        """Return what the server has said to end a connection; "": nothing."""
        return ""

    def hang_up(self, driver: Any) -> None:
        """Close the socket of a connection whose loop is closed; nothing else of it can be used."""
