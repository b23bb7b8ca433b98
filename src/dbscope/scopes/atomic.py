"""`db.atomic()`: a block, as a context manager and as a decorator; sync and async."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dbscope.aio import concurrency, shield
from dbscope.errors import Rollback, TransactionRequired
from dbscope.scopes import retry as retrying
from dbscope.scopes import timeout, unserved
from dbscope.scopes.decorating import (
    AsyncF,
    F,
    Place,
    around,
    around_async,
    must_be_async,
    must_be_plain,
)
from dbscope.scopes.entering import Entered, Plain, Waiting
from dbscope.scopes.guards import unit_here
from dbscope.scopes.scope import AsyncJobScope, SyncJobScope
from dbscope.scopes.settle import log_hooks, raise_first, run_hooks
from dbscope.unit import blocks, callsite, finish
from dbscope.unit.block import Block, Kind
from dbscope.unit.current import current, open_scope, unit_of
from dbscope.unit.options import PLAIN, AtomicOptions
from dbscope.unit.policy import Mode

if TYPE_CHECKING:
    from types import TracebackType

    from dbscope.unit.source import Source
    from dbscope.unit.unit import Unit


class AtomicBase(Entered):
    """What both kinds of `atomic()` share; several tasks may use one object."""

    called = "atomic"

    def __init__(self, source: Source, asked: AtomicOptions = PLAIN, where: object = None) -> None:
        self.source = source
        self.asked = asked
        if where is None and asked is not PLAIN:
            source.require(*asked.features)
        super().__init__(where)
        self._entered: list[tuple[Unit, Block]] = []

    def at(self, where: object) -> Any:
        """Return the same block, opened at another place; it is not retried itself."""
        self.is_used = True
        return type(self)(self.source, replace(self.asked, retry=0), where)

    def needs_scope(self) -> bool:
        """Tell whether the block has to open a scope for itself."""
        self.is_used = True
        if self.asked.own and not self.asked.readonly and (unit := unit_here(self.source)):
            self.source.check_second(unit)
        if self.asked.required or open_scope() is not None:
            return self.asked.own
        unserved.check(self.source, self.where)
        return True

    def unit(self) -> Unit:
        """Return the unit that the block is opened in."""
        if self.asked.retry:
            raise TypeError(retrying.NOT_A_BLOCK)
        unit = unit_of(self.source)
        if self.asked.required and unit.block is None:
            raise TransactionRequired(f"At {self.where}:")
        return unit

    @property
    def place(self) -> Place | None:
        """Where it can be opened, if not everywhere."""
        return Place.OUTERMOST if self.asked.durable and not self.asked.own else None

    def enter(self, unit: Unit) -> Block:
        """Open the block."""
        block = blocks.enter(unit, self.asked, where=self.where, owner=self)
        self._entered.append((unit, block))
        return block

    def failure(self, block: Block, error: BaseException | None) -> BaseException | None:
        """Return the error that the block is to be rolled back for, if there is one."""
        kept = self.asked.keeps(error) and not block.is_broken and not isinstance(error, Rollback)
        return None if kept else error

    def exit(self) -> tuple[Unit, Block]:
        """Return the innermost block that was opened by this object, here if possible."""
        scope = current.get()
        entry = self._entered[-1]
        for each in self._entered:
            if each[0].scope is scope:
                entry = each
        self._entered.remove(entry)
        return entry


def leave(unit: Unit, block: Block, error: BaseException | None) -> None:
    """Leave a block and run the hooks that are due by that; told once for both kinds."""
    try:
        blocks.leave(unit, block, error)
    except BaseException:
        log_hooks(run_hooks(unit), unit.scope)
        raise
    errors = run_hooks(unit)
    if error is None:
        raise_first(errors)
    log_hooks(errors, unit.scope)


def swallows(block: Block, error: BaseException | None) -> bool:
    """Tell whether the block ends the way of this error."""
    return isinstance(error, Rollback) and block.kind is not Kind.JOINED


class AsyncAtomic(AtomicBase, Waiting):
    """An atomic block of an `AsyncDatabase`."""

    async def __aenter__(self) -> Block:
        own = None
        if self.needs_scope():
            own = await AsyncJobScope(Mode.AUTOCOMMIT, self.where).__aenter__()
        try:
            unit = self.unit()
            if blocks.must_wait_to_enter(unit):
                block = await concurrency.in_greenlet(self.enter, unit)
            else:
                block = self.enter(unit)
            if self.asked.timeout is not None:
                await timeout.start(block)
        except BaseException as error:
            if own is not None:
                await own.__aexit__(type(error), error, None)
            raise
        block.own_scope = own
        return block

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        unit, block = self.exit()
        failed: BaseException | None = None
        leaving = error
        if error is None and unit.scope.forgotten:
            leaving = unit.scope.never_awaited()
        if block.timer is not None:
            leaving = await timeout.stop(block, leaving)
        try:
            await leave_async(unit, block, self.failure(block, leaving))
        except BaseException as failure:
            failed = failure
            if failure.__context__ is None and failure is not error:
                failure.__context__ = error  # which Python cannot see from inside a greenlet
            raise
        finally:
            if block.own_scope is not None:
                await block.own_scope.__aexit__(None, failed, None)
        if leaving is not error and leaving is not None:
            raise leaving from error
        return swallows(block, error)

    def __call__(self, function: AsyncF) -> AsyncF:
        """Decorate an `async def` function; each call opens a block of its own."""
        atomic: AsyncAtomic = self.at(callsite.of(function))
        if self.asked.retry:
            must_be_async(function, self.called)
            return retrying.decorated_async(atomic, function, self.asked.retry)
        return around_async(function, self, partial(atomic.at, atomic.where), self.place)


async def leave_async(unit: Unit, block: Block, error: BaseException | None) -> None:
    """Leave a block: at once if nothing is to be sent; COMMIT and ROLLBACK to the end."""
    if not blocks.must_wait_to_leave(unit, block):
        leave(unit, block, error)
        return
    if error is None and block.kind is not Kind.ROOT:
        await concurrency.in_greenlet(leave, unit, block, error)
        return
    if error is None:
        try:
            await shield.checkpoint()
            if finish.has_before_commit(unit) and unit.block is block:
                await concurrency.in_greenlet(finish.run_before_commit, unit)
        except BaseException as failure:
            await leave_async(unit, block, failure)
            raise
    work = concurrency.in_greenlet(leave, unit, block, error)
    plain = error is None and finish.is_only_commit(unit)
    limit = unit.source.finish_timeout
    await shield.to_the_end(work, limit=limit, at_once=error is not None, starts_here=plain)


class SyncAtomic(AtomicBase, Plain):
    """An atomic block of a `Database`."""

    def __enter__(self) -> Block:
        own = None
        if self.needs_scope():
            own = SyncJobScope(Mode.AUTOCOMMIT, self.where).__enter__()
        try:
            block = self.enter(self.unit())
        except BaseException as error:
            if own is not None:
                own.__exit__(type(error), error, None)
            raise
        block.own_scope = own
        return block

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        unit, block = self.exit()
        failed: BaseException | None = None
        leaving = error
        if error is None and unit.scope.forgotten:
            leaving = unit.scope.never_awaited()
        try:
            leave(unit, block, self.failure(block, leaving))
        except BaseException as failure:
            failed = failure
            raise
        finally:
            if block.own_scope is not None:
                block.own_scope.__exit__(None, failed, None)
        if leaving is not error and leaving is not None:
            raise leaving
        return swallows(block, error)

    def __call__(self, function: F) -> F:
        """Decorate a plain function; each call opens a block of its own."""
        atomic: SyncAtomic = self.at(callsite.of(function))
        if self.asked.retry:
            must_be_plain(function, self.called)
            return retrying.decorated(atomic, function, self.asked.retry)
        return around(function, self, partial(atomic.at, atomic.where), self.place)


class AsyncSavepoint(AsyncAtomic):
    """A savepoint of an `AsyncDatabase`."""

    called = "savepoint"

    def __init__(self, source: Source) -> None:
        super().__init__(source, AtomicOptions(required=True))

    def __call__(self, function: Any) -> Any:  # noqa: ARG002
        """Refuse: a savepoint far from its `except` hides which failure it is for."""
        raise TypeError(NOT_A_DECORATOR)


class SyncSavepoint(SyncAtomic):
    """A savepoint of a `Database`."""

    called = "savepoint"

    def __init__(self, source: Source) -> None:
        super().__init__(source, AtomicOptions(required=True))

    def __call__(self, function: Any) -> Any:  # noqa: ARG002
        """Refuse: a savepoint far from its `except` hides which failure it is for."""
        raise TypeError(NOT_A_DECORATOR)


NOT_A_DECORATOR = "savepoint() is a context manager: `with db.savepoint(): ...`"
