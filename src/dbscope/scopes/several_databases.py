"""The end of a scope that used several databases.

There is no two-phase commit. All of them are flushed and looked at first, so that what can fail
does so before anything is stored; then they are committed one after the other.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dbscope.errors import PartialCommit, TransactionOutcomeUnknown
from dbscope.unit import finish
from dbscope.unit.block import Outcome
from dbscope.watch.events import PartlyCommitted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbscope.unit.current import Scope
    from dbscope.unit.hooks import Hook
    from dbscope.unit.source import Source
    from dbscope.unit.unit import Unit


def finish_all(units: list[Unit], *, keep: bool) -> list[BaseException]:
    """Flush all units, then commit them in order; after the first failure roll back the rest.

    Returns:
        What went wrong; if something is stored by then, the first of it is a PartialCommit.
    """
    errors: list[BaseException] = []
    wrote: list[Unit] = []
    for unit, look in looks(units) if keep else ():
        if not errors:
            _try(unit, errors, look)
    for unit in sorted(units, key=turn_of):
        if unit.first_write is not None and unit.blocks:
            wrote.append(unit)
        _try(unit, errors, partial(finish.finish, unit, keep=keep and not errors))
        hand_over(unit)
    if errors and any(outcome_of(unit) is Outcome.COMMITTED for unit in wrote):
        errors[0] = partial_commit(wrote, errors[0])
        for unit in wrote:
            unit.source.events.tell(PartlyCommitted, unit, errors[0])
    return errors


def looks(units: list[Unit]) -> Iterator[tuple[Unit, partial[None]]]:
    """Give what is to be looked at before anything is stored: first what is pending in all."""
    for look in (finish.flush, finish.check):
        for unit in units:
            yield unit, partial(look, unit)


def _try(unit: Unit, errors: list[BaseException], work: partial[None]) -> None:
    try:
        unit.turn.world.run(work)
    except BaseException as error:
        errors.append(error)


def turn_of(unit: Unit) -> tuple[bool, bool, int]:
    """Return when a unit is committed: readers, then writers by their first write, SQLite last.

    The nearest database is the least likely to fail, so it comes when the others are certain.
    """
    writes = unit.first_write is not None
    return writes, writes and unit.source.commits_last, unit.first_write or 0


def outcome_of(unit: Unit) -> Outcome | None:
    """Return what became of the transaction of a unit."""
    return unit.blocks[0].outcome if unit.blocks else None


def partial_commit(wrote: list[Unit], cause: BaseException) -> PartialCommit:
    """Return the error that says what is stored and what is not."""
    names: dict[Outcome, list[str]] = {outcome: [] for outcome in Outcome}
    for unit in wrote:
        names[outcome_of(unit) or Outcome.ROLLED_BACK].append(_name_among(unit, wrote))
    outcomes = ", ".join(
        f"{outcome.value}: {' and '.join(map(repr, found))}"
        for outcome, found in names.items()
        if found
    )
    error = PartialCommit(f"In {wrote[0].scope}, {outcomes}.")
    error.committed = tuple(names[Outcome.COMMITTED])
    error.rolled_back = tuple(names[Outcome.ROLLED_BACK])
    error.unknown = tuple(names[Outcome.UNKNOWN])
    error.__cause__ = cause
    if isinstance(cause, TransactionOutcomeUnknown):
        error.add_note(f"The answer to a COMMIT was lost: {cause.what}")
    return error


def _name_among(unit: Unit, others: list[Unit]) -> str:
    """Name a database; a companion of the other kind has the same name, and says which it is."""
    name = unit.source.name
    if [other.source.name for other in others].count(name) == 1:
        return name
    return f"{name} ({'async' if unit.source.is_async else 'sync'})"


# -- hooks that wait for all databases -------------------------------------------------------------


def hand_over(unit: Unit) -> None:
    """Give hooks that wait for all databases to a transaction of the scope that is still open.

    As `ActiveRecord.after_all_transactions_commit`: if that is rolled back, they are forgotten.
    """
    if not any(hook.all_databases for hook in unit.pending_hooks):
        return
    other = open_elsewhere(unit.scope, unit.source)
    if other is None:
        return
    waiting = [hook for hook in unit.pending_hooks if hook.all_databases]
    unit.pending_hooks = [hook for hook in unit.pending_hooks if not hook.all_databases]
    adopt(other, waiting)


def adopt(unit: Unit, hooks: list[Hook]) -> None:
    """Let hooks wait for the transaction of a unit as well."""
    for hook in hooks:
        unit.blocks[0].on_commit(hook.function, robust=hook.robust, all_databases=True)


def open_elsewhere(scope: Scope, source: Source) -> Unit | None:
    """Return a unit of another database in this scope whose transaction is still open."""
    for unit in scope.units.values():
        if unit.source is not source and is_open(unit):
            return unit
    return None


def is_open(unit: Unit) -> bool:
    """Tell whether the end of a unit is still to come, and will come."""
    return bool(unit.blocks) and unit.blocks[0].outcome is None and not unit.is_unused()
