"""What is said when a block or a scope is entered in a way that Python has no good words for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Never, TypeVar, cast

from dbscope.unit import callsite, forgotten

F = TypeVar("F", bound=Callable[..., Any])


class NotEnteredSo(TypeError, AttributeError):
    """It has no such method, as `hasattr` says; only `with` looks further, and is told why."""


class Missing:
    """A method that there is not: `with` and `async with` say why."""

    def __init__(self, why: str) -> None:
        self.why = why

    def __get__(self, instance: Any, owner: Any) -> Never:
        raise NotEnteredSo(self.why)


UNCALLED = Missing("a block or a scope is opened by a call: write the parentheses, `db.atomic()`.")
FOR_ASYNC = Missing("this is of an AsyncDatabase: enter it by `async with`.")
FOR_PLAIN = Missing("this is of a Database: enter it by `with`, without `async`.")


class Bound(partial[Any]):
    """A method that opens something, of one database."""

    __slots__ = ()

    if not TYPE_CHECKING:  # who checks types is told by them
        __enter__ = __exit__ = __aenter__ = __aexit__ = UNCALLED


class Opening:
    """A method that opens something: `with db.atomic:` has forgotten to call it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        update_wrapper(cast("Any", self), function)

    def __get__(self, database: Any, owner: Any = None) -> Any:
        return self if database is None else Bound(self.function, database)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it of the class, with the database as the first argument."""
        return self.function(*args, **kwargs)


def opening(function: F) -> F:
    """Return the method, which says so when it is entered without being called."""
    return cast("F", Opening(function))


class Entered:
    """What `with` enters; nobody may rely on one that is thrown away where it is made."""

    called: str  # the method that makes it
    where: object
    is_used = True

    def __init__(self, where: object) -> None:
        self.is_used = where is not None  # ours is entered, or refused
        self.where = where or callsite.here()

    def __del__(self) -> None:
        if not self.is_used:
            thrown_away_by = sys._getframe().f_back  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            forgotten.note_never_entered(f"db.{self.called}", self.where, thrown_away_by)


class Waiting:
    """What is entered by `async with` only."""

    if not TYPE_CHECKING:
        __enter__ = __exit__ = FOR_ASYNC


class Plain:
    """What is entered by a plain `with` only."""

    if not TYPE_CHECKING:
        __aenter__ = __aexit__ = FOR_PLAIN
