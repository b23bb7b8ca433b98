"""What is said about one route: decorators that only leave a mark on its function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dbscope.unit.unit import Source

F = TypeVar("F")
MARK = "__dbscope_atomic__"


def choose(function: F, source: Source, *, atomic: bool) -> F:
    """Mark a route's function: its requests are one transaction, or autocommit.

    The function itself is returned, so the decorator may stand above or below `@app.get`.
    """
    if not callable(function):
        raise TypeError(f"a route's function is decorated, not {function!r}")
    choices: dict[Any, bool] = dict(getattr(function, MARK, {}))
    choices[source] = atomic
    setattr(function, MARK, choices)
    return function


def route_choice(endpoint: Any, source: Source) -> bool | None:
    """Return what the route says about this database, if anything."""
    choices: dict[Any, bool] | None = getattr(endpoint, MARK, None)
    return None if choices is None else choices.get(source)
