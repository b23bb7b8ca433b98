"""The session classes that people hold: SQLAlchemy's own, which ask their unit first."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError, ResourceClosedError
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin

from dbscope.engine import batches, notes, sandboxed, session_events
from dbscope.engine.healing import HealingSession, forget
from dbscope.engine.results import hold_rows, note_pieces
from dbscope.engine.session_transaction import UnitSessionTransaction
from dbscope.engine.sql_text import NONE, check_pieces, check_text, is_in_pieces, is_utility, writes
from dbscope.errors import ImplicitCommit, TransactionBroken, UnexpectedRollback
from dbscope.unit import callsite, manual
from dbscope.unit.ownership import InternalEnd
from dbscope.unit.rollback import tell_ended
from dbscope.unit.sessions import is_clean
from dbscope.unit.unit import State, Unit
from dbscope.watch.events import ClosedByHand, EndAsked, FlushBegun

ABOVE = 2  # calls: `_execute_internal` and what SQLAlchemy calls it from are nobody's line

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine


class UnitSession(HealingSession):
    """A `Session` of a unit: every operation takes the unit's turn, or is refused unsent.

    Without a unit (made by `db.sessionmaker()` by hand) it is a plain session.
    """

    dbscope_unit: Unit | None = None

    # Session.execute, scalar, scalars and SQLModel's exec all end here, in 2.0 and in 2.1.
    def _execute_internal(self, statement: Any, params: Any = None, **kwargs: Any) -> Any:
        unit = self.dbscope_unit
        if unit is None:
            return super()._execute_internal(statement, params, **kwargs)
        watch = unit.source.events.listeners.direct
        if watch is None:
            return self._execute(unit, statement, params, kwargs)
        around, unit.asked = unit.asked, (statement, kwargs, watch.here(ABOVE))
        try:
            return self._execute(unit, statement, params, kwargs)
        finally:
            unit.asked = around

    def _execute(self, unit: Unit, statement: Any, params: Any, kwargs: dict[str, Any]) -> Any:
        execute, peers = super()._execute_internal, self.dbscope_peers
        if peers is not None:
            execute = partial(peers.execute, execute)
        if isinstance(statement, TextClause):
            check_text(unit, statement, unit.source.sql_family)
        unit.wait_to_decide()
        given: Any = kwargs.get("execution_options") or NONE
        if in_pieces := is_in_pieces(statement, given):
            check_pieces(unit)
        elif not unit.blocks:
            # Its objects are read when the connection has been given back.
            kwargs["execution_options"] = {"prebuffer_rows": True, **given}
        if batches.are_many(params) and batches.are_wanted(unit, statement):
            operation = partial(batches.run, unit, partial(execute, statement, **kwargs), params)
        else:
            operation = partial(execute, statement, params, **kwargs)
        locks = getattr(statement, "_for_update_arg", None) is not None
        if locks:
            unit.check_lock()
        will_write = locks or writes(statement, unit.source.sql_family)
        is_alone = will_write and not unit.blocks and is_utility(statement, unit.source.sql_family)
        if will_write and peers is not None:
            peers.forget()
        if is_alone:
            self.flush()  # it is no part of what the database commits by itself
        result = self._use(operation, will_write=will_write, is_alone=is_alone)
        if in_pieces:
            note_pieces(result, unit)
        return result

    def flush(self, objects: Any = None) -> None:
        """Flush, as one operation of the unit; a failed flush breaks its block."""
        if is_clean(self) and not self._flushing:
            return  # as nearly always: every statement flushes first
        unit = self.dbscope_unit
        if unit is None or self._flushing:
            if unit is not None:
                unit.check_free()  # else it is an event of this flush that wants another one
            super().flush(objects)
        else:
            unit.source.events.tell(FlushBegun, unit)
            self._use(partial(self._marked, super().flush, objects), will_write=True)

    def _flush_warning(self, method: Any) -> None:
        # add(), merge() and delete(), in the middle of a flush: of another task?
        if self.dbscope_unit is not None:
            self.dbscope_unit.check_free()
        super()._flush_warning(method)

    def _bulk_save_mappings(self, *args: Any, **kwargs: Any) -> None:
        operation = partial(self._marked, super()._bulk_save_mappings, *args, **kwargs)
        self._use(operation, will_write=True)

    def _marked(self, flush: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        forget(self)
        unit = self.dbscope_unit
        if unit is None:
            flush(*args, **kwargs)
            return
        watch, around = unit.source.events.listeners.direct, unit.asked
        if watch is not None:
            unit.asked = (None, NONE, watch.here())
        try:
            flush(*args, **kwargs)
        except BaseException as error:
            # Whatever the error is, SQLAlchemy has rolled back what the flush was part of.
            unit.mark_broken(error)
            raise
        finally:
            unit.asked = around

    def _autobegin_t(self, begin: bool = False) -> SessionTransaction:
        # add(), merge(), delete(), begin(), statements and commit() come here first.
        if self.dbscope_unit is None:
            return super()._autobegin_t(begin)
        if self._transaction is None:
            self.dbscope_unit.commit.begin()
        self.dbscope_unit.check_open()
        if not self.dbscope_unit.turn.is_mine():
            self.dbscope_unit.turn.note_writer()
        if self._transaction is not None:
            return self._transaction
        how = SessionTransactionOrigin.BEGIN if begin else SessionTransactionOrigin.AUTOBEGIN
        return UnitSessionTransaction(self, how)

    def _before_attach(self, state: Any, obj: object) -> bool:
        try:
            return super()._before_attach(state, obj)
        except InvalidRequestError as error:
            error.add_note(notes.ATTACHED)
            raise

    def connection(self, *args: Any, **kwargs: Any) -> Connection:
        """Return the connection of the transaction, which is begun by that."""
        operation = partial(super().connection, *args, **kwargs)
        will_write = self.dbscope_unit is None or not self.dbscope_unit.is_readonly
        connection: Connection = self._use(operation, will_write=will_write, autocommits=False)
        return connection

    def get_bind(self, *args: Any, **kwargs: Any) -> Engine | Connection:
        """Return the engine that a statement belongs to; or another in its place."""
        bind = super().get_bind(*args, **kwargs)
        unit = self.dbscope_unit
        return sandboxed.bind_of(bind) if unit is None else unit.source.bind_of(unit, bind)

    def _use(
        self,
        operation: Callable[[], Any],
        *,
        will_write: bool,
        is_alone: bool = False,
        autocommits: bool = True,
    ) -> Any:
        unit = self.dbscope_unit
        if unit is not None and not unit.source.is_loops_own:
            unit.source.check_loop()  # a thread may have begun what goes on here
        if unit is None or not unit.begin_use(will_write=will_write, is_alone=is_alone):
            return operation()
        connection = unit.connection
        try:
            result = operation()
            return result if unit.blocks or not autocommits else self._autocommit(unit, result)
        except (PendingRollbackError, ResourceClosedError) as error:
            if connection is None or not (connection.invalidated or connection.closed):
                self._failed(unit)
                raise
            unit.mark_broken(error)  # somebody has done that to the connection
            self._failed(unit)
            raise TransactionBroken(f"In {unit.block or unit.scope}:") from error
        except BaseException:
            self._failed(unit)
            raise
        finally:
            unit.end_use()

    def _autocommit(self, unit: Unit, result: Any) -> Any:
        """End the transaction of a single statement or flush (`scope(atomic=False)`)."""
        if unit.leaving or not self._is_autobegun():
            return result
        if getattr(result, "returns_rows", False):
            hold_rows(result)
        with InternalEnd(unit):
            super().commit()
        return result

    def _is_autobegun(self) -> bool:
        transaction = self.get_transaction()
        return transaction is not None and transaction.origin is SessionTransactionOrigin.AUTOBEGIN

    def _failed(self, unit: Unit) -> None:
        if not unit.blocks and not unit.leaving and self._is_autobegun():
            super().rollback()

    def begin(self, nested: bool = False) -> SessionTransaction:
        """Begin a transaction by hand; not inside an explicit `atomic`."""
        unit = self.dbscope_unit
        if unit is None or unit.leaving:
            return super().begin(nested=nested)
        unit.check_free()
        manual.check_allowed(unit)
        transaction = super().begin(nested=nested)
        if nested and unit.blocks:
            manual.savepoint_begun(unit, transaction)
        return transaction

    def commit(self) -> None:
        """Commit by hand; not inside an explicit `atomic`."""
        unit = self.dbscope_unit
        if unit is None or unit.leaving:
            super().commit()
            return
        unit.check_free()
        manual.check_end(unit)
        unit.source.events.tell(EndAsked, unit, "commit()")
        mine: bool | None = False
        manual.check_wanted(unit)
        try:
            manual.about_to_commit(unit)
            mine = unit.turn.take()
            super().commit()
        except (UnexpectedRollback, ImplicitCommit):
            super().rollback()
            raise
        except BaseException as error:
            # A failed flush waits for a rollback(), and a failed hook came after COMMIT.
            failed = unit.fault is None and self.in_transaction()
            if not (failed and manual.commit_failed(unit, error)):
                raise
        finally:
            if mine:
                unit.turn.give_back()

    def rollback(self) -> None:
        """Roll back by hand; not inside an explicit `atomic`."""
        unit = self.dbscope_unit
        if unit is None or unit.leaving:
            super().rollback()
            return
        unit.check_free()
        manual.check_end(unit)
        unit.source.events.tell(EndAsked, unit, "rollback()")
        ended = unit.source.ended_outside(unit)
        super().rollback()
        tell_ended(ended, None)

    def _check_end(self) -> None:
        unit = self.dbscope_unit
        if unit is None or unit.leaving or unit.state is State.CLOSED:
            return
        manual.check_end(unit)
        if unit.first_write is not None:
            unit.source.events.tell(ClosedByHand, unit, callsite.of_call())

    def close(self) -> None:
        """Close by hand, which rolls back; not inside an explicit `atomic`."""
        self._check_end()
        super().close()

    def _close_impl(self, invalidate: bool, is_reset: bool = False) -> None:
        # Where close() and invalidate() end here, too: until its scope ends it can be used again.
        unit = self.dbscope_unit
        lives = unit is not None and unit.state is not State.CLOSED
        super()._close_impl(invalidate, is_reset or lives)

    def reset(self) -> None:
        """Roll back by hand, and forget all objects; not inside an explicit `atomic`."""
        self._check_end()
        super().reset()

    def invalidate(self) -> None:
        """Close by hand, with the connection; not inside an explicit `atomic`."""
        self._check_end()
        super().invalidate()


def session_class(base: type[Session]) -> type[Session]:
    """Return the class of `base`, with `UnitSession` on top of it."""
    if base is Session:
        return UnitSession
    return type("UnitSession", (UnitSession, base), {"__module__": __name__})


session_events.listen(UnitSession)
