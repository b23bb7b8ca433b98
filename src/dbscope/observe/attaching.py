"""Listen to a database, once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dbscope import AsyncDatabase, Database

AnyDatabase = AsyncDatabase[Any] | Database[Any]


def attach(database: AnyDatabase, listener: Callable[[Any], object]) -> Callable[[], None]:
    """Listen to a database, in the place of an earlier listener of the same class.

    Args:
        database: either kind; its companion is listened to as well.
        listener: an object that is called with each event.

    Returns:
        What ends it; it may be called again.
    """
    events = database.events
    for each in list(events.listeners):
        if type(each) is type(listener):
            events.remove(each)
    events.listen(listener)

    def remove() -> None:
        with suppress(ValueError):  # another one is there in its place
            events.remove(listener)

    return remove


def all_of(removes: list[Callable[[], None]]) -> Callable[[], None]:
    """Return what ends several of them."""

    def remove() -> None:
        for each in removes:
            each()

    return remove
