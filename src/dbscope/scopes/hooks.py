"""A hook that is registered where there is no transaction to wait for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dbscope.errors import TransactionManagementError, TransactionRequired
from dbscope.scopes.guards import unit_here
from dbscope.unit.hooks import Hook, HookFunction, is_async
from dbscope.unit.sessions import is_by_hand

if TYPE_CHECKING:
    from dbscope.unit.source import Source

logger = logging.getLogger("dbscope")


def run_now(source: Source, function: HookFunction, *, robust: bool) -> None:
    """Run a hook at once: what it waits for is stored already.

    An async one cannot be awaited here; it is run at the end of the scope.

    Raises:
        TransactionManagementError: a transaction was begun by hand.
        TransactionRequired: an async function outside any scope.
    """
    unit = unit_here(source)
    if unit is not None and unit.session is not None and is_by_hand(unit.session):
        raise TransactionManagementError(
            "on_commit() cannot know when a transaction begun by hand is committed; use `atomic`."
        )
    if is_async(function):
        if unit is None:
            raise TransactionRequired(f"{function!r} cannot be awaited outside a scope.")
        unit.pending_hooks.append(Hook(function, robust))
        return
    try:
        function()
    except Exception:
        if not robust:
            raise
        logger.exception("The robust hook %s failed.", function)
