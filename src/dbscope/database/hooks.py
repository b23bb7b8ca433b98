"""`on_commit` and its kin, which both kinds of database have: what is run when a block ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dbscope.scopes import guards, hooks, several_databases
from dbscope.unit.current import open_scope
from dbscope.unit.hooks import HookFunction, checked, is_async

if TYPE_CHECKING:
    from dbscope.engine.source import EngineSource
    from dbscope.unit.block import Block


class HasHooks:
    """A database at whose blocks functions can be registered."""

    _source: EngineSource
    is_async: ClassVar[bool]

    def on_commit(
        self, function: HookFunction, *, robust: bool = False, all_databases: bool = False
    ) -> None:
        """Run the function after the outermost COMMIT, or never.

        It belongs to the block it was registered in: if that is rolled back, it is forgotten. It
        runs in a scope of its own, after the connection was given back, in the order of
        registration. Outside a transaction it runs at once (Django's `on_commit`).

        Args:
            function: plain or async, without arguments.
            robust: an error of it is logged instead of raised.
            all_databases: wait for the transactions of other databases in this scope as well; it
                is forgotten if one of them is rolled back.

        Raises:
            TypeError: it cannot be called.
            TransactionManagementError: a transaction was begun by hand, in autocommit mode.
        """
        block = self._block_for(function)
        if block is None and all_databases and (scope := open_scope()) is not None:
            other = several_databases.open_elsewhere(scope, self._source)
            block = None if other is None else other.block
        if block is not None:
            block.on_commit(function, robust=robust, all_databases=all_databases)
        else:
            hooks.run_now(self._source, function, robust=robust)

    def on_rollback(self, function: HookFunction) -> None:
        """Run the function after this block was rolled back; best effort, a crash runs nothing.

        Outside a transaction it is never run.
        """
        block = self._block_for(function)
        if block is not None:
            block.on_rollback(function)

    def before_commit(self, function: HookFunction) -> None:
        """Run the function inside the transaction, just before COMMIT; its error rolls back.

        Raises:
            TransactionRequired: outside a transaction.
        """
        self._block_for(function)
        guards.required_block(self._source).before_commit(function)

    def _block_for(self, hook: HookFunction) -> Block | None:
        """Return the innermost block, which checks the hook; without one it is checked here."""
        block = guards.block_here(self._source)
        if block is None:
            checked(hook)
        if not self.is_async and is_async(hook):
            raise TypeError(f"a Database cannot await the async hook {hook!r}; use `db.async_`.")
        return block
