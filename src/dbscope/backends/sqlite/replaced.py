"""A file that is deleted or replaced while it is open: what is written would go into the old one.

It has no name any more, so it is gone with the last connection to it
(https://sqlite.org/howtocorrupt.html, 2.4).
"""

from __future__ import annotations

import logging
import os
import weakref
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

from dbscope.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Engine

logger = logging.getLogger("dbscope")

Identity = tuple[int, int]
KEY = "dbscope.file"


def identity_of(file: str) -> Identity | None:
    """Return what tells a file from another of the same name; None: it is not there."""
    try:
        found = os.stat(file)  # noqa: PTH116  (a third of the time)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def watch(engine: Engine, file: str) -> None:
    """Look, each time that a connection leaves the pool, whether the file is still the same.

    After `dispose()` whatever is there counts, and nothing there is a new database.
    """
    opened: list[Any] = [lambda: None]  # a reference to the pool that has had the file open

    @event.listens_for(engine, "do_connect")
    def before_connect(*args: Any) -> None:  # noqa: ARG001
        if opened[0]() is engine.pool and identity_of(file) is None:
            raise deleted(file)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:  # noqa: ARG001
        found = record.info[KEY] = identity_of(file)
        if found is not None:
            opened[0] = weakref.ref(engine.pool)

    @event.listens_for(engine, "checkout")
    def on_checkout(connection: Any, record: Any, proxy: Any) -> None:  # noqa: ARG001
        known, found = record.info.get(KEY), identity_of(file)
        if found == known or known is None:
            return
        if found is None:
            raise deleted(file)
        logger.warning("%s was replaced while it was open; it is opened anew.", file)
        raise DisconnectionError("has another file open")


def deleted(file: str) -> DatabaseUnavailable:
    """Return the error for a file that was there and is not any more."""
    logger.warning("%s was deleted while it was open.", file)
    return DatabaseUnavailable(
        f"{file} was deleted while it was open, and what is written would be lost. "
        "Put it back, or call dispose() to begin with an empty one."
    )
