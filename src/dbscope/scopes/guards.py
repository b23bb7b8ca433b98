"""`durable` and `transaction_required`: what a function says about the transaction around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from dbscope.aio import concurrency
from dbscope.errors import DurableError, TransactionManagementError, TransactionRequired
from dbscope.scopes.decorating import Place, wraps
from dbscope.unit import callsite, rollback
from dbscope.unit.current import open_scope, unit_of
from dbscope.unit.hooks import is_async
from dbscope.unit.sessions import is_by_hand
from dbscope.watch.events import EndAsked

if TYPE_CHECKING:
    from dbscope.unit.block import Block
    from dbscope.unit.source import Source
    from dbscope.unit.unit import Unit

F = TypeVar("F", bound=Callable[..., Any])


def unit_here(source: Source) -> Unit | None:
    """Return the unit of the open scope, or None outside of any."""
    scope = open_scope()
    if scope is None:
        return None
    return scope.units.get(source) or scope.units.setdefault(source, source.make_unit(scope))


def block_here(source: Source) -> Block | None:
    """Return the innermost block, or None outside a transaction."""
    unit = unit_here(source)
    return None if unit is None else unit.block


def required_block(source: Source) -> Block:
    """Return the innermost block.

    Raises:
        TransactionRequired: outside a transaction.
    """
    block = block_here(source)
    if block is None:
        raise TransactionRequired(f"{source}:")
    return block


def doom(source: Source) -> None:
    """Roll back everything at the end of the scope."""
    unit = unit_of(source)
    unit.doomed = True
    source.events.tell(EndAsked, unit, "doom()")


def set_rollback(source: Source, block: Block, *, rollback: bool) -> None:
    """Roll the block back quietly when it is left."""
    block.set_rollback(rollback)
    if rollback:
        source.events.tell(EndAsked, unit_of(source), "set_rollback(True)")


class Required:
    """`transaction_required`: a decorator, with and without parentheses, and a context manager."""

    def __init__(self, source: Source, where: object = None) -> None:
        self.source = source
        self.where = where or callsite.here()

    def check(self) -> None:
        """Raise unless there is a transaction."""
        unit = unit_here(self.source)
        if unit is None or unit.block is None:
            raise TransactionRequired(f"At {self.where}, for {self.source}:")

    def __enter__(self) -> None:
        self.check()

    def __exit__(self, *exc_info: object) -> None:
        """Leave; nothing was opened."""

    async def __aenter__(self) -> None:
        self.check()

    async def __aexit__(self, *exc_info: object) -> None:
        """Leave; nothing was opened."""

    def __call__(self, function: F) -> F:
        """Decorate a function, plain or async."""
        guard = Required(self.source, callsite.of(function))
        return around(function, "transaction_required", guard.check)


class RequiredVerb:
    """What `db.transaction_required` is: `@it`, `@it()` and `with it():` all work."""

    def __init__(self, source: Source) -> None:
        self.source = source

    @overload
    def __call__(self, function: F, /) -> F: ...
    @overload
    def __call__(self, /) -> Required: ...
    def __call__(self, function: Any = None, /) -> Any:
        """Return the guard, or the function with the guard before it."""
        guard = Required(self.source)
        return guard if function is None else guard(function)


def durable(function: F, source: Source) -> F:
    """Decorate a function that must be outermost and leaves nothing open."""
    where = callsite.of(function)

    def before() -> None:
        unit = unit_here(source)
        if unit is not None and unit.block is not None:
            raise DurableError(f"The function at {where} was called inside {unit.block}.")

    def after() -> None:
        unit = unit_here(source)
        if unit is not None and unit.session is not None and is_by_hand(unit.session):
            rollback.roll_back(unit)
            raise TransactionManagementError(
                f"The durable function at {where} left a transaction open; it was rolled back."
            )

    return around(function, "durable", before, after, Place.OUTERMOST)


def around(
    function: F,
    what: str,
    before: Callable[[], None],
    after: Callable[[], None] | None = None,
    place: Place | None = None,
) -> F:
    """Return the function with a check before it, and an end after it whatever happens."""
    if is_async(function):

        @wraps(function, what, place)
        async def checked_async(*args: Any, **kwargs: Any) -> Any:
            before()
            try:
                return await function(*args, **kwargs)
            finally:
                if after is not None:
                    await concurrency.in_greenlet(after)

        return checked_async

    @wraps(function, what, place)
    def checked(*args: Any, **kwargs: Any) -> Any:
        before()
        try:
            return function(*args, **kwargs)
        finally:
            if after is not None:
                after()

    return checked
