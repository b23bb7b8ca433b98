"""What is due after COMMIT or ROLLBACK, and in which order."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dbscope import arguments

HookFunction = Callable[[], Any]


@dataclass(slots=True, frozen=True)
class Hook:
    """A function to run at the end of a transaction."""

    function: HookFunction
    robust: bool = False
    all_databases: bool = False  # wait for those of the scope that are still open
    depth: int = 0  # how many blocks were around it
    is_of_commit: bool = False  # it was registered by `on_commit`

    def __str__(self) -> str:
        """Return the name of the function, or of an object's class: for messages, without data."""
        called: Any = self.function
        while isinstance(called, functools.partial):
            called = called.func
        return getattr(called, "__qualname__", None) or type(called).__qualname__


@dataclass(slots=True)
class Hooks:
    """The hooks of one block; they follow the fate of the savepoint they were registered in."""

    on_commit: list[Hook] = field(default_factory=list["Hook"])
    on_rollback: list[Hook] = field(default_factory=list["Hook"])
    before_commit: list[Hook] = field(default_factory=list["Hook"])

    def join(self, inner: Hooks) -> None:
        """Take over what an inner block promised."""
        self.on_commit += inner.on_commit
        self.on_rollback += inner.on_rollback
        self.before_commit += inner.before_commit

    def take(self, *, committed: bool) -> list[Hook]:
        """Return the hooks that are now due, in their order, and forget all."""
        due = self.on_commit if committed else innermost_first(self.on_rollback)
        self.on_commit, self.on_rollback, self.before_commit = [], [], []
        return due

    def take_before_commit(self) -> list[Hook]:
        """Return what must run before COMMIT, and forget it, so that each runs once."""
        due, self.before_commit = self.before_commit, []
        return due


def innermost_first(hooks: list[Hook]) -> list[Hook]:
    """Return the hooks of a rollback in their order, which is that of undoing.

    An inner block that was left well is undone after all, before what is around it. In one block,
    and in blocks of one depth, the order is that of registration, as it is after COMMIT.
    """
    return sorted(hooks, key=lambda hook: -hook.depth)


def checked(function: Any) -> HookFunction:
    """Return the function; TypeError if it cannot be called, or needs arguments."""
    arguments.check_call("a hook", function)
    hook: HookFunction = function
    return hook


def is_async(function: HookFunction) -> bool:
    """Tell whether calling the function gives something to await."""
    called: Any = function
    while isinstance(called, functools.partial):
        called = called.func
    method: Any = getattr(called, "__call__", None)  # noqa: B004  (an object may be callable)
    return inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(method)
