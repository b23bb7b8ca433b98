"""Which message the running job is about."""

from __future__ import annotations

from contextvars import ContextVar

from dbscope import ScopeMissing

current: ContextVar[str | None] = ContextVar("dbscope_message", default=None)


def message_id(*_: object, **__: object) -> str:
    """Return what the message of this job is called: the same each time it is delivered.

    The name of the job is in it, since several may get one message. Arguments are ignored, so that
    it can be the key of `db.once`.

    Raises:
        ScopeMissing: no job runs here.

    Example:
        >>> @db.once(key=message_id)
        ... async def place_order(order: Order) -> None: ...
    """
    found = current.get()
    if found is None:
        raise ScopeMissing("message_id() was called outside of a job.")
    return found
