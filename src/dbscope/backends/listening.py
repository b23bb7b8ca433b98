"""Functions that hear what a connection does, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from sqlalchemy import Connection, event


@contextmanager
def heard(connection: Connection, **listeners: Callable[..., None]) -> Generator[None, None, None]:
    """Let functions hear of what happens on a connection in the block.

    Args:
        connection: whose.
        **listeners: by the events of SQLAlchemy.
    """
    for name, listener in listeners.items():
        event.listen(connection, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners.items():
            event.remove(connection, name, listener)
