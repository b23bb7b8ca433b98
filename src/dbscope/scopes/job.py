"""`db.scope()`: a scope for a script, a job, a command, a websocket message."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from dbscope.engine import carry
from dbscope.errors import Rollback
from dbscope.scopes.settle import close, log_hooks, log_others, raise_first, settle, settled, used
from dbscope.unit import place
from dbscope.unit.current import Scope, current, in_generators
from dbscope.unit.hooks import is_async
from dbscope.unit.policy import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from dbscope.unit.unit import Unit

P = ParamSpec("P")
T = TypeVar("T")


class OpenedScope(Scope):
    """A scope that some line of code has opened."""

    def __init__(self, where: object, mode: Mode) -> None:
        super().__init__("", mode)
        self.where = where

    def __str__(self) -> str:
        return f"the scope opened at {self.where}"


class JobScope:
    """What both kinds of `scope()` share: entering and leaving the ContextVar."""

    def __init__(self, mode: Mode = Mode.ATOMIC, where: object = None) -> None:
        self.mode = mode
        self.where = where or place.here()
        self.stored = False  # something was, in one that has ended
        self._entered: list[Scope] = []

    def enter(self) -> Scope:
        """Make a scope, and make it the current one."""
        scope = OpenedScope(self.where, self.mode)
        self._entered.append(scope)
        if place.is_generator(self.where):
            in_generators.add(scope)
        current.set(scope)
        return scope

    def exit(self) -> Scope:
        """Take the scope that this code has entered; it stays current until it is forgotten."""
        here = current.get()
        return here if here in self._entered else self._entered[-1]

    def forget(self, scope: Scope) -> None:
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


class AsyncJobScope(JobScope):
    """A scope for async code: `async with`, or a decorator that opens a fresh one each call."""

    async def __aenter__(self) -> Self:
        self.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        scope = self.exit()
        try:
            if units := used(scope):
                await end(scope, units, error)
        finally:
            self.forget(scope)
        return isinstance(error, Rollback)

    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Any]:
        """Decorate an `async def` function."""
        must_be_async(function, "scope")
        where = place.of(function)

        @functools.wraps(function)
        async def in_scope(*args: P.args, **kwargs: P.kwargs) -> T:
            async with AsyncJobScope(self.mode, where):
                return await function(*args, **kwargs)

        return in_scope


class SyncJobScope(JobScope):
    """A scope for plain code: `with`, or a decorator that opens a fresh one for each call."""

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
        try:
            if units := used(scope):
                conclude(scope, *settle(units, keep=error is None), error)
        finally:
            self.forget(scope)
        return isinstance(error, Rollback)

    def __call__(self, function: Callable[P, T]) -> Callable[P, Any]:
        """Decorate a plain function."""
        must_be_plain(function, "scope")
        where = place.of(function)

        @functools.wraps(function)
        def in_scope(*args: P.args, **kwargs: P.kwargs) -> T:
            with SyncJobScope(self.mode, where):
                return function(*args, **kwargs)

        return in_scope


async def end(scope: Scope, units: list[Unit], error: BaseException | None) -> None:
    """Settle an async scope, to the end; a cancellation that comes before COMMIT rolls back."""
    if error is None:
        try:
            await carry.look_for_cancellation()
        except BaseException as cancelled:
            await end(scope, units, cancelled)
            raise
    outcome = await settled(units, keep=error is None)
    conclude(scope, *outcome, error)


def conclude(
    scope: Scope,
    errors: list[BaseException],
    hook_errors: list[BaseException],
    error: BaseException | None,
) -> None:
    """Raise what went wrong, unless another error is leaving the scope already."""
    if error is None:
        raise_first(errors + hook_errors)
    else:
        log_others(errors, scope)
        log_hooks(hook_errors, scope)


def must_be_async(function: Any, what: str) -> None:
    """Raise TypeError unless calling the function gives a coroutine."""
    _refuse_generators(function, what)
    if not is_async(function):
        raise TypeError(
            f"@{what} of an AsyncDatabase decorates async functions, and {function!r} is a plain "
            f"one; use `db.sync.{what}`."
        )


def must_be_plain(function: Any, what: str) -> None:
    """Raise TypeError unless the function is an ordinary one."""
    _refuse_generators(function, what)
    if is_async(function):
        raise TypeError(
            f"@{what} of a Database decorates plain functions, and {function!r} is async; "
            f"use `db.async_.{what}`."
        )


def _refuse_generators(function: Any, what: str) -> None:
    if not callable(function):
        raise TypeError(f"@{what} decorates functions, not {function!r}")
    target = inspect.unwrap(function)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise TypeError(
            f"@{what} cannot decorate the generator {function!r}: its body runs after the call "
            f"has returned. Use `with db.{what}(): ...` inside it."
        )
