"""What is said about one route: marks on its function, and dependencies that it has."""

from __future__ import annotations

import asyncio
import inspect
import sys
from inspect import Signature
from typing import TYPE_CHECKING, Any, TypeVar, overload

from dbscope.errors import ConfigurationError
from dbscope.unit.policy import ASGIScope, Mode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, Iterator
    from types import FrameType

    from dbscope.unit.source import Source

F = TypeVar("F")
MARK = "__dbscope_mode__"
FOUND = "__dbscope_dependencies__"
RETRIES = "__dbscope_retries__"


def choose(function: F, source: Source, mode: Mode) -> F:
    """Mark a route's function: what its requests are to this database.

    The function itself is returned, so the decorator may stand above or below `@app.get`.
    """
    if not callable(function):
        raise TypeError(f"a route's function is decorated, not {function!r}")
    choices: dict[Any, Mode] = dict(getattr(function, MARK, {}))
    choices[source] = mode
    setattr(function, MARK, choices)
    return function


def route_choice(scope: ASGIScope, source: Source) -> Mode | None:
    """Return what the route of a request says about this database, if anything."""
    choices: dict[Any, Mode] = getattr(scope.get("endpoint"), MARK, {})
    if (chosen := choices.get(source)) is not None:
        return chosen
    if (route := scope.get("route")) is None:
        return None
    found: dict[Source, Mode] | None = getattr(route, FOUND, None)
    return (dependencies_of(route) if found is None else found).get(source)


def refuse_override(scope: ASGIScope, source: Source) -> None:
    """Raise if the session of a request is another one than its `Depends(db.get_session)` gives.

    The function that stands in for `get_session` may use `db.session` itself.

    Raises:
        ConfigurationError: one of both would go to another database, or transaction.
    """
    overrides = getattr(scope.get("app"), "dependency_overrides", None)
    for replaced, function in overrides.items() if overrides else ():
        database = getattr(replaced, "__self__", None)
        if source in sources_of(database) and not is_running(function):
            raise ConfigurationError(
                f"`dependency_overrides` has another session for {source} than `db.session`, which "
                "is used as well. Let the test have a database of its own, for all of it: give its "
                "URL to the database, instead of overriding `get_session`."
            )


def sources_of(database: Any) -> list[Source]:
    """Return where the sessions of a database come from: its own, and those of its companion."""
    own: dict[str, Any] = getattr(database, "__dict__", {})
    companions: list[Any] = [own[name] for name in ("sync", "async_") if name in own]
    both: list[dict[str, Any]] = [own, *(each.__dict__ for each in companions)]
    return [each["_source"] for each in both if "_source" in each]


def is_running(function: Any) -> bool:
    """Tell whether the code that runs now was called by this function."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False


def dependencies_of(route: Any) -> dict[Source, Mode]:
    """Return what FastAPI's dependencies of a route say, however deep; looked for once."""
    dependant = getattr(route, "dependant", None)
    found = {} if dependant is None else {each.source: each.mode for each in calls(dependant)}
    setattr(route, FOUND, found)
    return found


def calls(dependant: Any) -> Iterator[Readonly]:
    """Give the `db.readonly` among the dependencies."""
    if isinstance(dependant.call, Readonly):
        yield dependant.call
    for each in dependant.dependencies:
        yield from calls(each)


def awaited(function: F) -> F:
    """Mark a function: what it returns is to be awaited, so FastAPI takes no thread for it."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    marked: Any = function
    coroutines: Any = asyncio.coroutines
    marked._is_coroutine = coroutines._is_coroutine  # noqa: SLF001
    return function


class Nothing:
    """Something to await, and nothing to wait for."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


class Readonly:
    """What `db.readonly` is: a decorator of a route, and a dependency of one."""

    mode = Mode.READONLY

    def __init__(self, source: Source) -> None:
        self.source = source
        self.__signature__ = Signature()  # FastAPI shall not look for the function in the query

    @overload
    def __call__(self, function: F, /) -> F: ...
    @overload
    def __call__(self, /) -> Awaitable[None]: ...
    @awaited
    def __call__(self, function: Any = None, /) -> Any:
        """Mark a route's function; called as a dependency there is nothing left to do."""
        return Nothing() if function is None else choose(function, self.source, self.mode)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Readonly) and other.source is self.source

    def __hash__(self) -> int:
        return hash((Readonly, self.source))


class Routes:
    """What some route of this process asks for, so that the others need not be looked at."""

    retry = False


def choose_retries(function: F, retries: int) -> F:
    """Mark a route's function: its requests are done again as often as that."""
    if not callable(function):
        raise TypeError(f"a route's function is decorated, not {function!r}")
    setattr(function, RETRIES, retries)
    Routes.retry = Routes.retry or retries > 0
    return function


def route_retries(endpoint: Any) -> int | None:
    """Return how often the route wants to be done again, if it says so."""
    retries: int | None = getattr(endpoint, RETRIES, None)
    return retries
