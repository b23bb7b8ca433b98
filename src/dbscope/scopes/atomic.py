"""`db.atomic()`: a block, as a context manager and as a decorator; sync and async."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from dbscope.engine import carry
from dbscope.errors import BlocksOutOfOrder, Rollback, TransactionRequired
from dbscope.scopes.job import AsyncJobScope, SyncJobScope, must_be_async, must_be_plain
from dbscope.scopes.settle import log_all, raise_first, run_hooks
from dbscope.unit import nesting, place
from dbscope.unit.block import Block, Kind
from dbscope.unit.current import open_scope, unit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from dbscope.unit.unit import Source, Unit

P = ParamSpec("P")
T = TypeVar("T")


class AtomicBase:
    """What both kinds of `atomic()` share. No state of an entered block is kept here."""

    def __init__(
        self,
        source: Source,
        *,
        savepoint: bool = True,
        durable: bool = False,
        required: bool = False,
        where: object = None,
    ) -> None:
        self.source = source
        self.savepoint = savepoint
        self.durable = durable
        self.required = required
        self.where = where or place.here()

    def at(self, where: object) -> Any:
        """Return the same block, opened at another place."""
        return type(self)(
            self.source,
            savepoint=self.savepoint,
            durable=self.durable,
            required=self.required,
            where=where,
        )

    def unit(self) -> Unit:
        """Return the unit that the block is opened in."""
        unit = unit_of(self.source)
        if self.required and unit.block is None:
            raise TransactionRequired(f"At {self.where}:")
        return unit

    def enter(self, unit: Unit) -> Block:
        """Open the block."""
        return nesting.enter(
            unit, where=self.where, owner=self, savepoint=self.savepoint, durable=self.durable
        )

    def entered(self) -> tuple[Unit, Block]:
        """Return the innermost block that was opened by this object."""
        unit = unit_of(self.source)
        for block in reversed(unit.blocks):
            if block.owner is self:
                return unit, block
        raise BlocksOutOfOrder(f"The block opened at {self.where}, in {unit.scope}.")


def leave(unit: Unit, block: Block, error: BaseException | None) -> None:
    """Leave a block and run the hooks that are due by that; told once for both kinds."""
    try:
        nesting.leave(unit, block, error)
    except BaseException:
        log_all(run_hooks(unit), unit.scope)
        raise
    errors = run_hooks(unit)
    if error is None:
        raise_first(errors)
    log_all(errors, unit.scope)


def swallows(block: Block, error: BaseException | None) -> bool:
    """Tell whether the block ends the way of this error."""
    return isinstance(error, Rollback) and block.kind is not Kind.JOINED


class AsyncAtomic(AtomicBase):
    """An atomic block of an `AsyncDatabase`."""

    async def __aenter__(self) -> Block:
        own = None
        if not self.required and open_scope() is None:
            own = await AsyncJobScope(atomic=False, where=self.where).__aenter__()
        try:
            unit = self.unit()
            if nesting.must_wait_to_enter(unit):
                block = await carry.in_greenlet(self.enter, unit)
            else:
                block = self.enter(unit)
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
        unit, block = self.entered()
        try:
            await leave_async(unit, block, error)
        finally:
            if block.own_scope is not None:
                await block.own_scope.__aexit__(None, None, None)
        return swallows(block, error)

    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Any]:
        """Decorate an `async def` function; each call opens a block of its own."""
        must_be_async(function, "atomic")
        atomic: AsyncAtomic = self.at(place.of(function))

        @functools.wraps(function)
        async def in_block(*args: P.args, **kwargs: P.kwargs) -> T:
            async with atomic:
                return await function(*args, **kwargs)

        return in_block


async def leave_async(unit: Unit, block: Block, error: BaseException | None) -> None:
    """Leave a block: at once if nothing is to be sent; COMMIT and ROLLBACK to the end."""
    if not nesting.must_wait_to_leave(unit, block):
        leave(unit, block, error)
        return
    if error is None and block.kind is not Kind.ROOT:
        await carry.in_greenlet(leave, unit, block, error)
        return
    if error is None:
        try:
            await carry.look_for_cancellation()
        except BaseException as cancelled:
            await leave_async(unit, block, cancelled)
            raise
    work = carry.in_greenlet(leave, unit, block, error)
    plain = error is None and unit.ends_plainly()
    limit = unit.source.finish_timeout
    await carry.to_the_end(work, limit=limit, at_once=error is not None, starts_here=plain)


class SyncAtomic(AtomicBase):
    """An atomic block of a `Database`."""

    def __enter__(self) -> Block:
        own = None
        if not self.required and open_scope() is None:
            own = SyncJobScope(atomic=False, where=self.where).__enter__()
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
        unit, block = self.entered()
        try:
            leave(unit, block, error)
        finally:
            if block.own_scope is not None:
                block.own_scope.__exit__(None, None, None)
        return swallows(block, error)

    def __call__(self, function: Callable[P, T]) -> Callable[P, Any]:
        """Decorate a plain function; each call opens a block of its own."""
        must_be_plain(function, "atomic")
        atomic: SyncAtomic = self.at(place.of(function))

        @functools.wraps(function)
        def in_block(*args: P.args, **kwargs: P.kwargs) -> T:
            with atomic:
                return function(*args, **kwargs)

        return in_block


class AsyncSavepoint(AsyncAtomic):
    """A savepoint of an `AsyncDatabase`."""

    def __init__(self, source: Source, **settings: Any) -> None:
        super().__init__(source, **{**settings, "required": True})

    def __call__(self, function: Any) -> Any:  # noqa: ARG002
        """Refuse: a savepoint far from its `except` hides which failure it is for."""
        raise TypeError(NOT_A_DECORATOR)


class SyncSavepoint(SyncAtomic):
    """A savepoint of a `Database`."""

    def __init__(self, source: Source, **settings: Any) -> None:
        super().__init__(source, **{**settings, "required": True})

    def __call__(self, function: Any) -> Any:  # noqa: ARG002
        """Refuse: a savepoint far from its `except` hides which failure it is for."""
        raise TypeError(NOT_A_DECORATOR)


NOT_A_DECORATOR = "savepoint() is a context manager: `with db.savepoint(): ...`"
