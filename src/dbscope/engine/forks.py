"""A fork: what the parent has open stays the parent's.

Both processes have the same sockets, and on them the same transactions. A child that ends one of
them, or has it collected, ends it for the parent; so it forgets them all, and collects none.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import event

from dbscope.aio import threads
from dbscope.aio.collecting import keep_for_good
from dbscope.backends.base import after_fork
from dbscope.unit.current import current

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.pool import ConnectionPoolEntry

    from dbscope.backends.base import Backend
    from dbscope.engine.engines import Engines
    from dbscope.unit.current import Scope
    from dbscope.unit.unit import Unit


class Forked(Protocol):
    """A database, as far as a fork matters to it."""

    engines: Engines
    backend: Backend

    def forget(self) -> None:
        """Start anew in the child."""
        ...


sources: WeakSet[Forked] = WeakSet()
_records: WeakKeyDictionary[ConnectionPoolEntry, str | None] = WeakKeyDictionary()
_of_the_parent: list[Any] = []


def watch(engine: Engine, file: str | None) -> None:
    """Know the connections of an engine: once for its life, and before anything connects for it.

    Args:
        engine: the engine.
        file: that its connections have open, if any.
    """

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: ConnectionPoolEntry) -> None:  # noqa: ARG001
        _records[record] = file


def _prepare() -> None:
    for source in list(sources):
        for engine in source.engines.made:
            for record in source.backend.close_idle(engine):
                _records.pop(record, None)


def _start_anew() -> None:
    threads.forget_threads()
    opened = [record for record in _records if record.dbapi_connection is not None]
    files = [_records.get(record) for record in opened]
    for start_anew in after_fork:
        start_anew(files)
    for scope in list(_open_scopes()):
        _leave_to_the_parent(scope)
    _of_the_parent.extend(engine.pool for engine in _engines())
    for source in list(sources):
        source.forget()
    _records.clear()
    if _of_the_parent:
        keep_for_good(_of_the_parent)


def _engines() -> Iterator[Engine]:
    for source in list(sources):
        yield from source.engines.made


def _open_scopes() -> Iterator[Scope]:
    scope = current.get()
    if scope is not None:
        yield from scope.with_ancestors()
    for record in _records:  # those of other tasks
        unit: Unit | None = record.info.get("dbscope.unit")
        if record.in_use and unit is not None:
            yield unit.scope


def _leave_to_the_parent(scope: Scope) -> None:
    scope.closed = True
    scope.closed_reason = "was used in a process that was forked in"
    for unit in scope.units.values():
        _of_the_parent.append((unit.handle, unit.session, unit.connection))
        unit.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare, after_in_child=_start_anew)
