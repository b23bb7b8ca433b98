"""`scope`, `atomic` and `savepoint`: what both kinds of database open around work."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, overload

from dbscope.scopes import propagation as propagations
from dbscope.scopes.atomic import AsyncAtomic, AsyncSavepoint, SyncAtomic, SyncSavepoint
from dbscope.scopes.entering import opening
from dbscope.scopes.scope import AsyncJobScope, SyncJobScope
from dbscope.unit.options import Classes
from dbscope.unit.policy import mode

if TYPE_CHECKING:
    from dbscope.engine.source import EngineSource

AsyncFunction = TypeVar("AsyncFunction", bound=Callable[..., Coroutine[Any, Any, Any]])
Function = TypeVar("Function", bound=Callable[..., Any])


class AsyncBlocks:
    """What an `AsyncDatabase` opens."""

    _source: EngineSource

    @overload
    def scope(self, function: AsyncFunction, /) -> AsyncFunction: ...
    @overload
    def scope(self, /, *, atomic: bool = True, readonly: bool = False) -> AsyncJobScope: ...
    @opening
    def scope(self, function: Any = None, /, *, atomic: bool = True, readonly: bool = False) -> Any:
        """Open a scope: commit at its end, or roll back if an exception leaves it; close always.

        A context manager, and a decorator that opens a fresh scope for each call. Inside another
        scope it has a session of its own, and once used a connection of its own. Do not `yield`
        from a generator inside it: whoever iterates would be in it, too (PEP 567).

        Args:
            function: what is decorated.
            atomic: False: autocommit, each statement and each flush its own transaction.
            readonly: writing is a ReadOnlyViolation, and reads autocommit.
        """
        if readonly:
            self._source.require("readonly")
        opened = AsyncJobScope(mode(atomic=atomic, readonly=readonly))
        return opened if function is None else opened(function)

    @overload
    def atomic(self, function: AsyncFunction, /) -> AsyncFunction: ...
    @overload
    def atomic(
        self,
        /,
        *,
        savepoint: bool = True,
        durable: bool = False,
        propagation: propagations.Propagations | None = None,
        isolation: str | None = None,
        readonly: bool | None = None,
        timeout: float | None = None,
        retry: int = 0,
        rollback_for: type[BaseException] | Classes = (),
        no_rollback_for: type[BaseException] | Classes = (),
    ) -> AsyncAtomic: ...
    @opening
    def atomic(
        self,
        function: Any = None,
        /,
        *,
        savepoint: bool = True,
        durable: bool = False,
        propagation: propagations.Propagations | None = None,
        isolation: str | None = None,
        readonly: bool | None = None,
        timeout: float | None = None,
        retry: int = 0,
        rollback_for: type[BaseException] | Classes = (),
        no_rollback_for: type[BaseException] | Classes = (),
    ) -> Any:
        """Open a block: a transaction, or a savepoint inside one (Django's `atomic`).

        A context manager, and a decorator with and without parentheses. Nothing is sent before
        its first statement; a savepoint is left out where the transaction has done nothing yet.
        Outside any scope it opens one for itself.

        Args:
            function: what is decorated.
            savepoint: False: join the block around it, which fails if this one does.
            durable: DurableError unless it is outermost, so that leaving it means COMMIT.
            propagation: Spring's word for what is done about a transaction around it.
            isolation: of the transaction, for example "SERIALIZABLE"; for an outermost block.
            readonly: True: writing is a ReadOnlyViolation; for an outermost block.
            timeout: seconds for all of the block, COMMIT not counted.
            retry: of a decorated function only: how often it may be done again after a conflict
                with another transaction, see `run`.
            rollback_for: exceptions that roll the block back though their base is one of
                `no_rollback_for`; all others do anyway.
            no_rollback_for: exceptions that leave the block and yet keep what was done in it,
                unless a statement has failed there.

        Raises:
            AttributeMismatch: the transaction around it has another isolation, or may write.
            TransactionTimeout: the time was up; the block is rolled back.
            UnexpectedRollback: when left normally after a failure inside was swallowed.
            TypeError: a generator, or a plain function, is decorated; or a block has `retry`.
        """
        kind = propagations.propagation(propagation, savepoint=savepoint)
        asked = propagations.asked(
            kind,
            durable=durable,
            isolation=isolation,
            readonly=readonly,
            timeout=timeout,
            retry=retry,
            rollback_for=rollback_for,
            no_rollback_for=no_rollback_for,
        )
        block: Any
        if kind in propagations.WITHOUT:
            block = propagations.AsyncNonTransactionalBlock(self._source, kind)
        else:
            block = AsyncAtomic(self._source, asked)
        return block if function is None else block(function)

    @opening
    def savepoint(self) -> AsyncSavepoint:
        """Open a savepoint. A context manager only; TransactionRequired outside a transaction."""
        return AsyncSavepoint(self._source)


class SyncBlocks:
    """What a `Database` opens."""

    _source: EngineSource

    @overload
    def scope(self, function: Function, /) -> Function: ...
    @overload
    def scope(self, /, *, atomic: bool = True, readonly: bool = False) -> SyncJobScope: ...
    @opening
    def scope(self, function: Any = None, /, *, atomic: bool = True, readonly: bool = False) -> Any:
        """Open a scope; see `AsyncDatabase.scope`."""
        if readonly:
            self._source.require("readonly")
        opened = SyncJobScope(mode(atomic=atomic, readonly=readonly))
        return opened if function is None else opened(function)

    @overload
    def atomic(self, function: Function, /) -> Function: ...
    @overload
    def atomic(
        self,
        /,
        *,
        savepoint: bool = True,
        durable: bool = False,
        propagation: propagations.Propagations | None = None,
        isolation: str | None = None,
        readonly: bool | None = None,
        timeout: float | None = None,
        retry: int = 0,
        rollback_for: type[BaseException] | Classes = (),
        no_rollback_for: type[BaseException] | Classes = (),
    ) -> SyncAtomic: ...
    @opening
    def atomic(
        self,
        function: Any = None,
        /,
        *,
        savepoint: bool = True,
        durable: bool = False,
        propagation: propagations.Propagations | None = None,
        isolation: str | None = None,
        readonly: bool | None = None,
        timeout: float | None = None,
        retry: int = 0,
        rollback_for: type[BaseException] | Classes = (),
        no_rollback_for: type[BaseException] | Classes = (),
    ) -> Any:
        """Open a block; see `AsyncDatabase.atomic`."""
        kind = propagations.propagation(propagation, savepoint=savepoint)
        asked = propagations.asked(
            kind,
            durable=durable,
            isolation=isolation,
            readonly=readonly,
            timeout=timeout,
            retry=retry,
            rollback_for=rollback_for,
            no_rollback_for=no_rollback_for,
        )
        block: Any
        if kind in propagations.WITHOUT:
            block = propagations.SyncNonTransactionalBlock(self._source, kind)
        else:
            block = SyncAtomic(self._source, asked)
        return block if function is None else block(function)

    @opening
    def savepoint(self) -> SyncSavepoint:
        """Open a savepoint. A context manager only; TransactionRequired outside a transaction."""
        return SyncSavepoint(self._source)
