"""`db.scope()`: a scope for a script, a job, a command, a websocket message."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Self

from dbscope.aio import shield
from dbscope.engine.loops import event_loop
from dbscope.errors import Rollback
from dbscope.scopes import background
from dbscope.scopes.decorating import AsyncF, F, Place, around, around_async
from dbscope.scopes.entering import Entered, Plain, Waiting
from dbscope.scopes.settle import (
    close,
    decided,
    log_hooks,
    log_others,
    raise_first,
    settle,
    settled,
    used,
)
from dbscope.unit import callsite
from dbscope.unit.current import Scope, current, in_generators
from dbscope.unit.no_session import NoSession
from dbscope.unit.policy import Mode
from dbscope.watch.dispatch import heard

if TYPE_CHECKING:
    from types import TracebackType

    from dbscope.unit.unit import Unit


class OpenedScope(Scope):
    """A scope that some line of code has opened."""

    runs_background = True

    def __init__(self, where: object, mode: Mode, *, can_await: bool, robust: bool = False) -> None:
        super().__init__("", mode)
        self.where = where
        self.can_await = can_await
        self.robust = robust

    def __str__(self) -> str:
        return f"the scope opened at {self.where}"


class JobScope(NoSession, Entered):
    """What both kinds of `scope()` share: entering and leaving the ContextVar."""

    called = "scope"
    can_await: bool

    def __init__(
        self,
        mode: Mode = Mode.ATOMIC,
        where: object = None,
        attempts: object = None,
        *,
        robust: bool = False,
    ) -> None:
        Entered.__init__(self, where)
        self.mode = mode
        self.attempts = attempts  # of which it is one
        self.robust = robust
        self.kind = ""  # what it is the scope of, where that is known
        self.stored = False  # something was, in one that has ended
        self._entered: list[OpenedScope] = []

    def enter(self) -> Scope:
        """Make a scope, and make it the current one."""
        self.is_used = True
        scope = OpenedScope(self.where, self.mode, can_await=self.can_await, robust=self.robust)
        scope.attempts = self.attempts
        scope.kind = self.kind or (scope.parent.kind_inside if scope.parent else scope.kind)
        self._entered.append(scope)
        if callsite.is_generator(self.where):
            in_generators.add(scope)
        current.set(scope)
        return scope

    def exit(self) -> OpenedScope:
        """Take the scope that this code has entered; it stays current until it is forgotten."""
        here = current.get()
        return next((each for each in self._entered if each is here), self._entered[-1])

    def forget(self, scope: OpenedScope) -> None:
        """Close the scope, and give its place back to the one around it.

        A generator may be collected while other code runs, whose scope is the current one.
        """
        close(scope)
        self.stored = self.stored or scope.stored
        self._entered.remove(scope)
        if current.get() is scope:
            around = scope.parent
            while isinstance(around, OpenedScope) and around.closed:
                around = around.parent
            current.set(around)


class AsyncJobScope(JobScope, Waiting):
    """A scope for async code: `async with`, or a decorator that opens a fresh one each call."""

    can_await = True

    async def __aenter__(self) -> Self:
        task = asyncio.current_task(event_loop())
        self.enter().opener = task
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        scope = self.exit()
        never_awaited = scope.never_awaited() if scope.forgotten and error is None else None
        try:
            if units := used(scope):
                await end(scope, units, error or never_awaited)
        finally:
            self.forget(scope)
            if scope.background:
                await background.run_behind(scope)
        if never_awaited is not None:
            raise never_awaited
        return isinstance(error, Rollback)

    def __call__(self, function: AsyncF) -> AsyncF:
        """Decorate an `async def` function."""
        opened = partial(AsyncJobScope, self.mode, callsite.of(function))
        return around_async(function, self, opened, Place.ANYWHERE)


class SyncJobScope(JobScope, Plain):
    """A scope for plain code: `with`, or a decorator that opens a fresh one for each call."""

    can_await = False

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        scope = self.exit()
        never_awaited = scope.never_awaited() if scope.forgotten and error is None else None
        error = error or never_awaited
        try:
            if units := used(scope):
                if heard:
                    decided(units, keep=error is None, error=error)
                conclude(scope, *settle(units, keep=error is None), error)
        finally:
            self.forget(scope)
            if scope.background:
                background.run_plainly(scope)
        if never_awaited is not None:
            raise never_awaited
        return isinstance(error, Rollback)

    def __call__(self, function: F) -> F:
        """Decorate a plain function."""
        opened = partial(SyncJobScope, self.mode, callsite.of(function))
        return around(function, self, opened, Place.ANYWHERE)


async def end(scope: OpenedScope, units: list[Unit], error: BaseException | None) -> None:
    """Settle an async scope, to the end; a cancellation that comes before COMMIT rolls back."""
    if error is None:
        try:
            await shield.checkpoint()
        except BaseException as cancelled:
            await end(scope, units, cancelled)
            raise
    if heard:
        decided(units, keep=error is None, error=error)
    outcome = await settled(units, keep=error is None)
    conclude(scope, *outcome, error)


def conclude(
    scope: OpenedScope,
    errors: list[BaseException],
    hook_errors: list[BaseException],
    error: BaseException | None,
) -> None:
    """Raise what went wrong, unless another error is leaving the scope already."""
    if scope.robust or error is not None:
        log_hooks(hook_errors, scope)
        hook_errors = []
    if error is None:
        raise_first(errors + hook_errors)
    else:
        log_others(errors, scope)
