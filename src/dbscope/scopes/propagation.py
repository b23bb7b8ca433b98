"""`propagation=`: Spring's seven words for what a block does about a transaction around it.

Most have a verb of their own (https://docs.spring.io/spring-framework/reference/data-access/transaction/declarative/tx-propagation.html):
`nested` is a plain `atomic()`, `required` is `savepoint=False`, `mandatory` is
`transaction_required`, and `never` is `durable`.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from dbscope import arguments
from dbscope.errors import ConfigurationError, DurableError
from dbscope.scopes import unserved
from dbscope.scopes.backoff import checked
from dbscope.scopes.decorating import AsyncF, F, Place, around, around_async
from dbscope.scopes.entering import Entered, Plain, Waiting
from dbscope.scopes.guards import unit_here
from dbscope.scopes.scope import AsyncJobScope, SyncJobScope
from dbscope.unit import callsite
from dbscope.unit.current import Scope, current, open_scope
from dbscope.unit.options import PLAIN, AtomicOptions, exception_classes, isolation_level
from dbscope.unit.policy import Mode

if TYPE_CHECKING:
    from types import TracebackType

    from dbscope.unit.block import Block
    from dbscope.unit.options import Classes
    from dbscope.unit.source import Source


class Propagation(StrEnum):
    """What a block does about a transaction around it."""

    REQUIRED = "required"  # join it, or begin one
    NESTED = "nested"  # a savepoint in it, or begin one
    MANDATORY = "mandatory"  # join it, or TransactionRequired
    REQUIRES_NEW = "requires_new"  # a session and a connection of its own
    NOT_SUPPORTED = "not_supported"  # autocommit, outside of it
    SUPPORTS = "supports"  # join it, or autocommit
    NEVER = "never"  # DurableError, or autocommit


Propagations = Literal[
    "required", "nested", "mandatory", "requires_new", "not_supported", "supports", "never"
]
READONLY = arguments.or_none(arguments.FLAG)
PLAINLY = {  # what a block asks for by its propagation only
    **dict.fromkeys(Propagation, PLAIN),
    Propagation.REQUIRED: AtomicOptions(savepoint=False),
    Propagation.MANDATORY: AtomicOptions(savepoint=False, required=True),
    Propagation.REQUIRES_NEW: AtomicOptions(own=True),
}
PLACES = {
    Propagation.NEVER: Place.OUTERMOST,
    Propagation.NOT_SUPPORTED: Place.ANYWHERE,
}
WITHOUT = {Propagation.NOT_SUPPORTED, Propagation.SUPPORTS, Propagation.NEVER}


def propagation(word: str | None, *, savepoint: bool) -> Propagation:
    """Return what is meant by the two arguments of `atomic()`.

    Raises:
        ConfigurationError: there is no such word.
    """
    if word is None and savepoint is True:
        return Propagation.NESTED
    arguments.check("savepoint", savepoint, arguments.FLAG)
    if word is None:
        return Propagation.REQUIRED
    arguments.check("propagation", word, arguments.TEXT)
    try:
        return Propagation(word.lower())
    except ValueError:
        words = ", ".join(Propagation)
        raise ConfigurationError(f"propagation={word!r} must be one of {words}.") from None


def asked(
    kind: Propagation,
    *,
    durable: bool,
    isolation: str | None,
    readonly: bool | None,
    timeout: float | None,
    retry: int,
    rollback_for: type[BaseException] | Classes,
    no_rollback_for: type[BaseException] | Classes,
) -> AtomicOptions:
    """Return what a block asks for, checked.

    Raises:
        ConfigurationError: no such isolation level, a time that is none, what is no exception,
            or attributes for a block that has no transaction.
    """
    given = isolation is not None or readonly is not None or timeout is not None
    if not (given or durable or retry or rollback_for or no_rollback_for):
        return PLAINLY[kind]
    arguments.check("timeout", timeout, arguments.SECONDS)
    arguments.check("durable", durable, arguments.FLAG)
    arguments.check("readonly", readonly, READONLY)
    arguments.check("isolation", isolation, arguments.WORD)
    if kind in WITHOUT:
        raise ConfigurationError(
            f"propagation={kind.value!r} takes no other arguments: it opens no transaction."
        )
    return replace(
        PLAINLY[kind],
        durable=durable,
        isolation=isolation_level(isolation),
        readonly=readonly,
        timeout=timeout,
        retry=checked(retry, "retry", 0),
        rollback_for=exception_classes(rollback_for),
        no_rollback_for=exception_classes(no_rollback_for),
    )


class NonTransactionalBlock(Entered):
    """A block that begins no transaction; what it opens at most is a scope that autocommits."""

    called = "atomic"

    def __init__(self, source: Source, kind: Propagation, where: object = None) -> None:
        super().__init__(where)
        self.source = source
        self.kind = kind
        self._entered: list[tuple[Scope | None, Any]] = []

    def at(self, where: object) -> Any:
        """Return the same, opened at another place."""
        return type(self)(self.source, self.kind, where)

    def block_around(self) -> Block | None:
        """Return the innermost block around.

        Raises:
            DurableError: there is one, and there must never be.
        """
        unit = unit_here(self.source)
        block = None if unit is None else unit.block
        if block is not None and self.kind is Propagation.NEVER:
            raise DurableError(f"propagation='never' at {self.where} was entered inside {block}.")
        return block

    @property
    def place(self) -> Place | None:
        """Where it can be opened, if not everywhere."""
        return PLACES.get(self.kind)

    def needs_scope(self) -> bool:
        """Tell whether it has to open a scope."""
        self.is_used = True
        inside = self.block_around() is not None
        if open_scope() is not None:
            return inside and self.kind is Propagation.NOT_SUPPORTED
        unserved.check(self.source, self.where)
        return True

    def entered(self, own: Any) -> None:
        """Note the scope that was opened for it, if any; several tasks may share this object."""
        self._entered.append((current.get(), own))

    def own_scope(self) -> Any:
        """Take the scope that was opened here, where this code is now."""
        here = current.get()
        for entry in reversed(self._entered):
            if entry[0] is here:
                self._entered.remove(entry)
                return entry[1]
        return self._entered.pop()[1]


class AsyncNonTransactionalBlock(NonTransactionalBlock, Waiting):
    """A block without a transaction, of an `AsyncDatabase`."""

    async def __aenter__(self) -> Block | None:
        own = AsyncJobScope(Mode.AUTOCOMMIT, self.where) if self.needs_scope() else None
        if own is not None:
            await own.__aenter__()
        self.entered(own)
        return self.block_around()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        own = self.own_scope()
        return None if own is None else await own.__aexit__(kind, error, traceback)

    def __call__(self, function: AsyncF) -> AsyncF:
        """Decorate an `async def` function."""
        return around_async(function, self, partial(self.at, callsite.of(function)), self.place)


class SyncNonTransactionalBlock(NonTransactionalBlock, Plain):
    """A block without a transaction, of a `Database`."""

    def __enter__(self) -> Block | None:
        own = SyncJobScope(Mode.AUTOCOMMIT, self.where) if self.needs_scope() else None
        if own is not None:
            own.__enter__()
        self.entered(own)
        return self.block_around()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        own = self.own_scope()
        return None if own is None else own.__exit__(kind, error, traceback)

    def __call__(self, function: F) -> F:
        """Decorate a plain function."""
        return around(function, self, partial(self.at, callsite.of(function)), self.place)
