"""The transaction of a unit's session: whatever begins it, it takes its connection by one door.

A statement begins a transaction, and so does a flush, also the one inside COMMIT, `connection()`
and what a hook does. All of them come to the root `SessionTransaction` for a connection, so what a
transaction is told, what is checked before it and what it waits for has its place here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.orm import SessionTransaction

from dbscope.engine import telling
from dbscope.errors import ConfigurationError, PoolTimeout, TransactionManagementError
from dbscope.watch.events import ConnectionTaken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from dbscope.unit.unit import Unit


class UnitSessionTransaction(SessionTransaction):
    """The outermost transaction of the session of a unit."""

    def _connection_for_bind(self, bind: Any, execution_options: Any) -> Connection:
        session: Any = self.session
        unit: Unit | None = session.dbscope_unit
        if unit is None or bind in self._connections:
            return super()._connection_for_bind(bind, execution_options)
        # `SessionTransaction.connection()` comes here without an operation of the session's.
        is_use = not unit.turn.is_mine() and unit.begin_use(will_write=not unit.is_readonly)
        try:
            if self._connections:
                raise _second_engine(unit, bind)
            return self._begin_unit(unit, bind, execution_options)
        finally:
            if is_use:
                unit.end_use()

    def _begin_unit(self, unit: Unit, bind: Any, given: Mapping[str, Any] | None) -> Connection:
        source = unit.source
        source.before_transaction(unit, bind)
        options = source.begin_with(unit, bind)
        if given:
            options = {**options, **_allowed(unit, given)}
        telling.want(unit, bind.engine)
        try:
            connection = super()._connection_for_bind(bind, options)
            if source.events.listeners:
                source.events.tell(ConnectionTaken, unit, None)
            return connection  # noqa: TRY300  (its error is told below)
        except PoolExhausted as error:
            refused = PoolTimeout(source.describe_wait(unit))
            source.events.tell(ConnectionTaken, unit, refused)
            raise refused from error
        except BaseException as error:
            source.events.tell(ConnectionTaken, unit, error)
            if unit.connection is not None:  # it has begun, and could not be told what it is to be
                unit.mark_broken(error)
            raise


def _allowed(unit: Unit, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options that somebody gives a connection, unless they would undo its block.

    Raises:
        ConfigurationError: what is done in the block would not be one transaction, or not the one
            that it has asked for.
    """
    level = given.get("isolation_level")
    if level is None or not unit.blocks:
        return given
    asked = unit.blocks[0].isolation
    if str(level).upper() == "AUTOCOMMIT" or (asked is not None and asked != str(level).upper()):
        raise ConfigurationError(
            f"A connection with isolation_level={level!r} was asked for inside {unit.block}. "
            "A block says so itself, `atomic(isolation=...)`; autocommit is `scope(atomic=False)`."
        )
    return given


def _second_engine(unit: Unit, bind: Any) -> TransactionManagementError:
    there = None if unit.connection is None else unit.connection.engine
    return TransactionManagementError(
        f"The transaction of {unit.scope} is on {there!r}, and work in it was routed to "
        f"{bind.engine!r}, whose COMMIT would be another one. Route all of a transaction to one "
        "engine, or do the rest in a `scope()` of its own."
    )
