"""The end of a scope: finish its units, then run the hooks that became due.

Told once, as plain functions: called in a thread, carried in a greenlet for async code.
"""

from __future__ import annotations

import sys
from asyncio import CancelledError
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from dbscope.scopes import carrying, several_databases
from dbscope.unit import finish
from dbscope.unit.current import Scope, current
from dbscope.unit.sessions import is_clean
from dbscope.watch.dispatch import heard, tell_all
from dbscope.watch.events import Decided, FailureNotRaised, HookBegun, HookEnded, HookFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, Iterable

    from dbscope.unit.hooks import Hook
    from dbscope.unit.unit import Unit


def settle(units: list[Unit], *, keep: bool) -> tuple[list[BaseException], list[BaseException]]:
    """Commit or roll back the units of one scope, and run the hooks that are due by that.

    After the first failure the other units are rolled back: nothing is kept of work that failed.

    Returns:
        What went wrong with the work, and what went wrong in hooks when the work was done.
    """
    errors: list[BaseException] = []
    if keep and has_before_commit(units):
        units = run_before_commit(units, errors)
        _told(units, errors)
    for unit in units:
        unit.seal()
    if len(units) > 1:
        errors += several_databases.finish_all(units, keep=keep and not errors)
    elif units:
        end = partial(finish.finish, units[0], keep=keep and not errors)
        _try(errors, partial(units[0].turn.world.run, end))
    hook_errors: list[BaseException] = []
    for unit in units:
        if unit.pending_hooks:
            hook_errors += run_hooks(unit)
    return errors, hook_errors


def settled(
    units: list[Unit], *, keep: bool
) -> Awaitable[tuple[list[BaseException], list[BaseException]]]:
    """Settle the units to the end. They are sealed before anything of ours is waited for."""
    if keep and has_before_commit(units):
        return _settled_after_that(units)
    for unit in units:
        unit.seal()
    return carrying.end(units, settle, units, keep=keep)


async def _settled_after_that(
    units: list[Unit],
) -> tuple[list[BaseException], list[BaseException]]:
    """Run what wants to run before COMMIT, where a cancellation still counts; then settle."""
    failed: list[BaseException] = []
    try:
        units = await carrying.before_the_end(units, run_before_commit, units, failed)
    except BaseException as error:
        failed.insert(0, error)
    _told(units, failed)
    errors, hook_errors = await settled(units, keep=not failed)
    return failed + errors, hook_errors


def used(scope: Scope) -> list[Unit]:
    """Return the units that have anything to finish."""
    units: list[Unit] = []
    for unit in scope.units.values():  # a comprehension is one call more
        if not unit.is_unused():
            units.append(unit)  # noqa: PERF401
    return units


def have_work(units: Iterable[Unit]) -> bool:
    """Tell whether a ROLLBACK would lose anything that was written, or is pending."""
    for unit in units:
        if unit.first_write is not None or (unit.session and not is_clean(unit.session)):
            return True
    return False


def decided(
    units: Iterable[Unit],
    *,
    keep: bool,
    error: BaseException | None = None,
    status: int | None = None,
) -> None:
    """Tell those who listen what was decided about the work of a scope, and why."""
    for unit in units:
        unit.source.events.tell(Decided, unit, keep, error, status)


def _told(units: list[Unit], errors: list[BaseException]) -> None:
    """Tell that what was to be kept is not: something before COMMIT has failed."""
    if errors:
        decided(units, keep=False, error=errors[0])


def has_before_commit(units: list[Unit]) -> bool:
    """Tell whether something wants to run before COMMIT: it may use any of the databases."""
    for unit in units:  # noqa: SIM110  (`any` is one call more)
        if finish.has_before_commit(unit):
            return True
    return False


def run_before_commit(units: list[Unit], errors: list[BaseException]) -> list[Unit]:
    """Run what wants to run before COMMIT, and what that asks for, until something fails.

    Returns:
        The units that are to be finished then: some may be used only now.
    """
    while not errors and has_before_commit(units):
        for unit in units:
            before = partial(finish.run_before_commit, unit)
            _try(errors, partial(unit.turn.world.run, before))
        units = used(units[0].scope)
    return units


def _try(errors: list[BaseException], work: partial[None]) -> None:
    try:
        work()
    except BaseException as error:
        errors.append(error)


def run_hooks(unit: Unit) -> list[BaseException]:
    """Run the hooks that are due, each in a scope of its own, and return what went wrong.

    All of them run, whatever the others do. A robust hook's error is logged, and does not count.
    """
    errors: list[BaseException] = []
    several_databases.hand_over(unit)
    while due := unit.take_pending_hooks():
        for hook in due:
            try:
                _run_hook(unit, hook)
            except (Exception, CancelledError) as error:  # of a future that it waited for
                unit.source.events.tell(HookFailed, unit, hook, error)
                if not hook.robust:
                    errors.append(error)
            else:
                unit.source.events.tell(HookEnded, unit, hook)
    return errors


def _run_hook(unit: Unit, hook: Hook) -> None:
    unit.source.events.tell(HookBegun, unit, hook)
    with entered(Scope(f"the hook {hook} of {unit.scope}")) as scope:
        scope.is_hook, keep = True, False
        try:
            unit.turn.world.call(hook.function)
            if scope.forgotten and (never_awaited := scope.never_awaited()):
                raise never_awaited
            keep = True
        finally:
            if heard:
                decided(scope.units.values(), keep=keep, error=None if keep else sys.exception())
            errors, hook_errors = settle(list(scope.units.values()), keep=keep)
    raise_first(errors + hook_errors)


@contextmanager
def entered(scope: Scope) -> Generator[Scope, None, None]:
    """Make the scope the current one; it is closed afterwards."""
    token = current.set(scope)
    try:
        yield scope
    finally:
        close(scope)
        current.reset(token)


def close(scope: Scope) -> None:
    """End the scope: whoever still holds on to it gets ScopeClosed."""
    scope.closed = True
    if scope.parent is not None:
        scope.parent.note_ended(scope)
    if not scope.units:
        return
    # What refers to each other is parted, so that nothing waits for the garbage collector.
    units, scope.units = scope.units, {}
    for unit in units.values():
        finish.close(unit)


def raise_first(errors: list[BaseException]) -> None:
    """Raise the first error, with the others noted on it."""
    if errors:
        first, *others = errors
        for other in others:
            first.add_note(f"Another failure at the same end: {other!r}")
        raise first


def log_hooks(errors: list[BaseException], name: object) -> None:
    """Report hooks that failed, which must not change the outcome."""
    for error in errors:
        tell_all(FailureNotRaised, name, error, "hook")


def log_others(errors: list[BaseException], name: object) -> None:
    """Report what went wrong with the work after its first failure, which everybody is told."""
    for error in errors:
        tell_all(FailureNotRaised, name, error, "work")
